"""Pictures being encoded and uploaded, each once, however many edits wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Lock

from ...crew import Crew, settle
from ...errors import EditCancelled
from ...images import Pixels, encode_jpeg, encode_png
from ..payload import UploadQuality
from .encoded import encoded
from .storage import Kind, Storage

# Apart, so that storage that does not answer holds up no edit whose pictures need none.
_packers = Crew("firered-fal-encode", 4)
_shippers = Crew("firered-fal-upload", 4)

_ENCODERS: dict[UploadQuality, tuple[Kind, Callable[[Pixels], bytes]]] = {
    "lossless": ("png", encode_png),
    "jpeg 95": ("jpeg", encode_jpeg),
}


class Parcel:
    """One picture on its way: ``encoded`` after ``pack``, ``address`` after ``ship``."""

    def __init__(
        self, digest: str, pixels: Pixels, quality: UploadQuality, storage: Storage | None
    ) -> None:
        self.kind, self._encode = _ENCODERS[quality]
        self.encoded: Future[bytes] = Future()
        self.address: Future[str] = Future()
        self.holders = 0
        self._digest = digest
        self._pixels = pixels
        self._storage = storage
        self._lock = Lock()
        self._packed = self._shipped = False

    def pack(self) -> None:
        """Have the picture encoded, if nobody has yet."""
        with self._lock:
            already, self._packed = self._packed, True
        if already:
            return
        if (data := encoded.get(self._digest)) is not None:
            self.encoded.set_result(data)
        else:
            _packers.submit(lambda: settle(self._pack, self.encoded))

    def ship(self) -> bool:
        """Have the picture uploaded once it is encoded; whether nobody had before."""
        with self._lock:
            already, self._shipped = self._shipped, True
        if not already:
            self.encoded.add_done_callback(
                lambda _: _shippers.submit(lambda: settle(self._ship, self.address))
            )
        return not already

    @property
    def failed(self) -> bool:
        futures = (self.encoded, self.address)
        return any(future.done() and future.exception() is not None for future in futures)

    def _pack(self) -> bytes:
        if self._abandoned():
            raise EditCancelled
        data = self._encode(self._pixels)
        encoded.put(self._digest, data)
        return data

    def _ship(self) -> str:
        data = self.encoded.result()
        if self._abandoned() or self._storage is None:
            raise EditCancelled
        return self._storage.store(self._digest, self.kind, data, self._abandoned)

    def _abandoned(self) -> bool:
        return self.holders == 0


class Parcels:
    """The parcels that edits hold right now. One edit's Cancel takes nothing from another."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._held: dict[tuple[str, str], Parcel] = {}

    @contextmanager
    def hold(
        self, pictures: Mapping[str, Pixels], quality: UploadQuality, storage: Storage | None
    ) -> Iterator[dict[str, Parcel]]:
        """A parcel for each of ``pictures``, which are keyed by digest: others' where there are."""
        name = storage.name if storage else ""
        fresh = {
            (name, digest): Parcel(digest, pixels, quality, storage)
            for digest, pixels in pictures.items()
        }
        with self._lock:
            held = {key: self._take(key, parcel) for key, parcel in fresh.items()}
        try:
            yield {digest: parcel for (_, digest), parcel in held.items()}
        finally:
            with self._lock:
                for key, parcel in held.items():
                    self._leave(key, parcel)

    def _take(self, key: tuple[str, str], fresh: Parcel) -> Parcel:
        parcel = self._held.get(key)
        if parcel is None or parcel.failed:
            parcel = self._held[key] = fresh
        parcel.holders += 1
        return parcel

    def _leave(self, key: tuple[str, str], parcel: Parcel) -> None:
        parcel.holders -= 1
        # With no holder its work is abandoned: whoever wants the picture now starts anew.
        if not parcel.holders and self._held.get(key) is parcel:
            del self._held[key]


parcels = Parcels()
"""One for the process."""
