"""How the reference pictures of an edit travel: inside the request, or by fal's storage."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from ...errors import EditCancelled
from ...images import Pixels
from ..payload import UploadQuality
from ..waiting import CANCEL_CHECK_S
from .parcels import Parcel, parcels
from .storage import Storage, picture_digest

INLINE_LIMIT = 4 * 1024 * 1024
"""Bytes of the whole JSON body, up to which pictures travel inside it."""


@dataclass(frozen=True)
class Sent:
    """``urls`` in the order of the pictures; ``inline`` if any of them is a data URI.

    ``uploaded`` counts the pictures this edit had uploaded, in ``uploaded_bytes``; not those that
    were there, or that another edit was uploading.
    """

    urls: list[str]
    uploaded: int = 0
    uploaded_bytes: int = 0
    inline: bool = False


@dataclass(frozen=True)
class Picture:
    """(H, W, 3) ``pixels``, and the digest of what is sent of them."""

    pixels: Pixels
    digest: str

    @classmethod
    def of(cls, pixels: Pixels, quality: UploadQuality) -> Picture:
        return cls(pixels, picture_digest(pixels, quality))


class Sender:
    """Finds an address for each picture. Without ``storage`` all travel inside the request."""

    def __init__(self, storage: Storage | None, quality: UploadQuality) -> None:
        self._storage = storage
        self._quality = quality

    def addresses(
        self,
        pictures: Sequence[Picture],
        body_bytes: int,
        stopped: Callable[[], bool],
        tell: Callable[[int, int], None],
    ) -> Sent:
        """An address of each of ``pictures``; a picture given twice is sent once.

        ``body_bytes`` is the length of the request's JSON with an empty text for every address.
        ``tell`` hears how many of how many uploads are done, on this thread. Blocks; raises
        ``EditCancelled`` soon after ``stopped``, and whatever ``Storage.store`` does.
        """
        digests = [picture.digest for picture in pictures]
        wanted = {picture.digest: picture.pixels for picture in pictures}
        with parcels.hold(wanted, self._quality, self._storage) as held:
            # Only now: an upload that ends before this line is remembered, after it is shared.
            known = self._known(held)
            batch = _Batch(
                {digest: parcel for digest, parcel in held.items() if digest not in known}, stopped
            )
            times = Counter(digests)
            used = body_bytes + sum(len(url) * times[digest] for digest, url in known.items())
            if batch.fits(INLINE_LIMIT - used, times) or self._storage is None:
                return batch.inline(digests, known)
            return batch.stored(digests, known, tell)

    def _known(self, digests: Iterable[str]) -> dict[str, str]:
        if self._storage is None:
            return {}
        found = {digest: self._storage.find(digest) for digest in digests}
        return {digest: url for digest, url in found.items() if url is not None}


class _Batch:
    """The pictures of one edit that have no address yet, by digest."""

    def __init__(self, fresh: dict[str, Parcel], stopped: Callable[[], bool]) -> None:
        self._fresh = fresh
        self._stopped = stopped
        for parcel in fresh.values():
            parcel.pack()

    def fits(self, room: int, times: Counter[str]) -> bool:
        """Whether all fit into ``room`` bytes as data URIs; does not wait longer than needed."""
        packing = {parcel.encoded: digest for digest, parcel in self._fresh.items()}
        for encoded in _as_done(packing, self._stopped):
            digest = packing[encoded]
            room -= _uri_length(self._fresh[digest]) * times[digest]
            if room < 0:
                return False
        return True

    def inline(self, digests: list[str], known: dict[str, str]) -> Sent:
        for encoded in _as_done((parcel.encoded for parcel in self._fresh.values()), self._stopped):
            encoded.result()
        urls = known | {digest: _data_uri(parcel) for digest, parcel in self._fresh.items()}
        return Sent([urls[digest] for digest in digests], inline=bool(self._fresh))

    def stored(
        self, digests: list[str], known: dict[str, str], tell: Callable[[int, int], None]
    ) -> Sent:
        ours = [parcel for parcel in self._fresh.values() if parcel.ship()]
        self._follow(tell)
        urls = known | {digest: parcel.address.result() for digest, parcel in self._fresh.items()}
        return Sent(
            [urls[digest] for digest in digests],
            uploaded=len(ours),
            uploaded_bytes=sum(len(parcel.encoded.result()) for parcel in ours),
        )

    def _follow(self, tell: Callable[[int, int], None]) -> None:
        """Wait for every address."""
        arrived = 0
        packing = {parcel.encoded for parcel in self._fresh.values()}
        shipping = {parcel.address for parcel in self._fresh.values()}
        tell(0, len(shipping))
        for done in _as_done([*packing, *shipping], self._stopped):
            done.result()
            if done in shipping:
                arrived += 1
                tell(arrived, len(shipping))


def _as_done(pending: Iterable[Future[Any]], stopped: Callable[[], bool]) -> Iterator[Future[Any]]:
    """Each of ``pending`` when it is done; ``EditCancelled`` as soon as ``stopped``."""
    waiting = set(pending)
    while waiting:
        if stopped():
            raise EditCancelled
        done, waiting = futures.wait(waiting, CANCEL_CHECK_S, futures.FIRST_COMPLETED)
        yield from done


def _scheme(parcel: Parcel) -> str:
    return f"data:image/{parcel.kind};base64,"


def _uri_length(parcel: Parcel) -> int:
    """Characters of the data URI, without making it."""
    return len(_scheme(parcel)) + -(-len(parcel.encoded.result()) // 3) * 4


def _data_uri(parcel: Parcel) -> str:
    """The encoded picture as an address that holds it; no metadata of the original file."""
    return _scheme(parcel) + base64.b64encode(parcel.encoded.result()).decode("ascii")
