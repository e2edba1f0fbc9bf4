"""Reference pictures on their way to fal, over real HTTP against the loopback fal."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Literal

import numpy as np
import pytest
import requests
from PIL import Image

from doubles.fal_server import FalServer, Fault
from doubles.fal_server import storage as double_storage
from doubles.fal_server.faults import Phase
from doubles.fal_server.replies import Reply
from firered_edit.pipeline.errors import (
    AccountError,
    EditCancelled,
    FireRedError,
    InputError,
    RemoteError,
)
from firered_edit.pipeline.fal.payload import UploadQuality
from firered_edit.pipeline.fal.protocol import repeating
from firered_edit.pipeline.fal.protocol.hosts import Hosts
from firered_edit.pipeline.fal.protocol.transport import new_session
from firered_edit.pipeline.fal.uploads import encoded, parcels, sending, storage
from firered_edit.pipeline.fal.uploads.sending import Picture, Sender, Sent
from firered_edit.pipeline.fal.uploads.storage import Storage, picture_digest
from firered_edit.pipeline.fal.uploads.tokens import Tokens
from firered_edit.pipeline.host import RemoteSettings
from firered_edit.pipeline.images import Pixels, decode, encode_jpeg, encode_png
from support.kinds import MakePhoto

FOREIGN = "http://192.0.2.1"
"""An address that is nobody's; were it asked, the test would wait for the connect time-out."""

TOKEN = {"token": "t", "token_type": "Bearer", "expires_at": "2999-01-01T00:00:00Z"}


class _Notes:
    """Remembers addresses as a journal does."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], tuple[str, float]] = {}

    def uploaded(self, digest: str, storage: str) -> str | None:
        url, expires_at = self.entries.get((digest, storage), ("", 0.0))
        return url if time.time() < expires_at else None

    def remember_upload(self, digest: str, storage: str, url: str, expires_at: float) -> None:
        self.entries[digest, storage] = (url, expires_at)

    def forget_uploads(self, urls: Sequence[str]) -> None:
        self.entries = {key: kept for key, kept in self.entries.items() if kept[0] not in urls}


@dataclass
class _Desk:
    """A server, and edits that send pictures to it."""

    server: FalServer
    session: requests.Session
    notes: _Notes = field(default_factory=_Notes)
    lifetime_s: int = RemoteSettings().upload_lifetime_s
    key: str = ""

    def storage(self) -> Storage:
        hosts = Hosts.from_environment({"FAL_REST_HOST": self.server.url})
        return Storage(
            self.key or self.server.key,
            self.server.url,
            hosts.check_upload_base,
            self.session,
            self.notes,
            self.lifetime_s,
        )

    def send(
        self,
        *pictures: Pixels,
        quality: UploadQuality = "lossless",
        body_bytes: int = 0,
        stopped: Callable[[], bool] = lambda: False,
        tell: Callable[[int, int], None] = lambda done, total: None,
    ) -> Sent:
        sender = Sender(self.storage(), quality)
        wanted = [Picture.of(pixels, quality) for pixels in pictures]
        return sender.addresses(wanted, body_bytes, stopped, tell)

    def file(self, url: str) -> double_storage.StoredFile:
        stored = self.server.storage.find(url)
        assert stored is not None
        return stored

    def shown(self, url: str) -> Pixels:
        return decode(self.file(url).data)

    def counts(self) -> dict[str, int]:
        phases: tuple[Phase, ...] = ("token", "initiate", "upload")
        return {phase: count for phase in phases if (count := self.server.count(phase))}


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Desk]:
    """Everything goes to storage, whatever its size; pauses are short."""
    monkeypatch.setattr(sending, "INLINE_LIMIT", 0)
    monkeypatch.setattr(storage, "tokens", Tokens())
    encoded.encoded.clear()
    monkeypatch.setattr(repeating, "RETRY_PAUSE_S", (0.01, 0.02))
    with FalServer() as server, new_session() as session:
        session.trust_env = False
        yield _Desk(server, session)
    assert not parcels.parcels._held


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "UPLOAD_PATIENCE_S", 0.2)
    monkeypatch.setattr(storage, "TOKEN_PATIENCE_S", 0.1)


def _pictures(photo: MakePhoto, count: int) -> list[Pixels]:
    return [photo(40 + number, 30) for number in range(count)]


def test_addresses_keep_the_order_and_every_pixel(desk: _Desk, photo: MakePhoto) -> None:
    pictures = _pictures(photo, 6)
    told: list[tuple[int, int]] = []
    sent = desk.send(*pictures, tell=lambda done, total: told.append((done, total)))
    for url, pixels in zip(sent.urls, pictures, strict=True):
        assert np.array_equal(desk.shown(url), pixels)
    assert told == [(done, 6) for done in range(7)]
    assert (sent.uploaded, sent.inline) == (6, False)
    assert sent.uploaded_bytes == sum(len(desk.file(url).data) for url in sent.urls)
    assert desk.counts() == {"token": 1, "upload": 6}


def test_what_is_stored_tells_nothing_of_the_artist(desk: _Desk, photo: MakePhoto) -> None:
    (lossless,) = desk.send(photo(40, 30)).urls
    (jpeg,) = desk.send(photo(40, 30), quality="jpeg 95").urls
    kinds = [desk.file(url).content_type for url in (lossless, jpeg)]
    assert kinds == ["image/png", "image/jpeg"]
    assert (lossless[-13:], jpeg[-13:]) == ("reference.png", "reference.jpg")
    for url in (lossless, jpeg):
        assert json.loads(desk.file(url).lifecycle) == {"expiration_duration_seconds": 86400}
        with Image.open(io.BytesIO(desk.file(url).data)) as picture:
            assert not picture.getexif()
            assert not set(picture.info) - {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_jpeg_keeps_the_full_colour_resolution(desk: _Desk) -> None:
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2, 0], stripes[:, 1::2, 2] = 255, 255
    (url,) = desk.send(stripes, quality="jpeg 95").urls
    assert np.abs(desk.shown(url).astype(int) - stripes).max() < 20


def test_a_picture_given_twice_is_uploaded_once(desk: _Desk, photo: MakePhoto) -> None:
    one, other = _pictures(photo, 2)
    sent = desk.send(one, other, one.copy())
    assert sent.urls[0] == sent.urls[2] != sent.urls[1]
    assert sent.uploaded == 2
    assert desk.counts() == {"token": 1, "upload": 2}


def test_eight_edits_at_once_share_one_upload(desk: _Desk, photo: MakePhoto) -> None:
    desk.server.fail("upload", Fault.hang(0.2))
    with ThreadPoolExecutor(8) as edits:
        sent = list(edits.map(lambda _: desk.send(photo(40, 30)), range(8)))
    assert len({address for each in sent for address in each.urls}) == 1
    assert sum(each.uploaded for each in sent) == 1
    assert sum(each.uploaded_bytes for each in sent) == len(desk.file(sent[0].urls[0]).data)
    assert desk.counts() == {"token": 1, "upload": 1}


def test_a_second_edit_neither_encodes_nor_sends(
    desk: _Desk, photo: MakePhoto, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = _pictures(photo, 3)
    first = desk.send(*pictures)
    monkeypatch.setattr(parcels.Parcel, "_pack", lambda _: pytest.fail("encoded again"))
    told: list[tuple[int, int]] = []
    second = desk.send(*reversed(pictures), tell=lambda *each: told.append(each))
    assert second.urls == first.urls[::-1]
    assert (second.uploaded, second.uploaded_bytes, second.inline) == (0, 0, False)
    assert desk.counts() == {"token": 1, "upload": 3}
    assert told == []


def test_only_what_is_new_is_sent(desk: _Desk, photo: MakePhoto) -> None:
    old, new = _pictures(photo, 2)
    (known,) = desk.send(old).urls
    sent = desk.send(new, old)
    assert sent.urls[1] == known
    assert sent.uploaded == 1
    assert np.array_equal(desk.shown(sent.urls[0]), new)


def test_another_quality_or_account_has_its_own_addresses(desk: _Desk, photo: MakePhoto) -> None:
    (lossless,) = desk.send(photo(40, 30)).urls
    (jpeg,) = desk.send(photo(40, 30), quality="jpeg 95").urls
    desk.server.key = desk.key = "other:account"
    (other,) = desk.send(photo(40, 30)).urls
    assert len({lossless, jpeg, other}) == 3
    assert desk.counts() == {"token": 2, "upload": 3}


def test_four_uploads_at_a_time(desk: _Desk, photo: MakePhoto) -> None:
    took = 0.15
    desk.server.fail("upload", Fault.hang(took), times=10)
    with ThreadPoolExecutor(2) as edits:
        pictures = _pictures(photo, 10)
        list(edits.map(lambda half: desk.send(*half), (pictures[:5], pictures[5:])))
    times = sorted(request.at for request in desk.server.requests if request.phase == "upload")
    overlapping = [sum(at <= other < at + took for other in times) for at in times]
    assert max(overlapping) == 4


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch, desk: _Desk) -> int:
    monkeypatch.setattr(sending, "INLINE_LIMIT", 50_000)
    return 50_000


@pytest.mark.parametrize("quality", ["lossless", "jpeg 95"])
def test_pictures_travel_inside_the_request_up_to_the_limit(
    desk: _Desk, limit: int, photo: MakePhoto, quality: UploadQuality
) -> None:
    pictures = [*_pictures(photo, 2), photo(40, 30)]
    uris = [_uri(pixels, quality) for pixels in pictures]
    body = json.dumps({"prompt": "hat", "image_urls": ["", "", ""]})
    padding = limit - len(json.dumps({"prompt": "hat", "image_urls": uris}))
    exact = desk.send(*pictures, quality=quality, body_bytes=len(body) + padding)
    assert exact.urls == uris
    assert (exact.inline, exact.uploaded, exact.uploaded_bytes) == (True, 0, 0)
    assert desk.counts() == {}
    above = desk.send(*pictures, quality=quality, body_bytes=len(body) + padding + 1)
    assert not any(url.startswith("data:") for url in above.urls)
    assert (above.inline, above.uploaded) == (False, 2)


def test_a_remembered_address_is_used_where_pictures_travel_inside(
    desk: _Desk, limit: int, photo: MakePhoto
) -> None:
    old, new = _pictures(photo, 2)
    (known,) = desk.send(old, body_bytes=limit).urls
    rest = limit - len(known) - len(_uri(new, "lossless"))
    sent = desk.send(old, new, body_bytes=rest)
    assert sent.urls == [known, _uri(new, "lossless")]
    assert sent.inline
    assert desk.counts() == {"token": 1, "upload": 1}
    assert desk.send(old, new, body_bytes=rest + 1).uploaded == 1


def _small(photo: MakePhoto) -> list[Picture]:
    return [Picture.of(photo(40, 30), "lossless")]


def test_without_storage_everything_travels_inside(desk: _Desk, photo: MakePhoto) -> None:
    sent = Sender(None, "lossless").addresses(_small(photo), 0, lambda: False, _silent)
    assert np.array_equal(decode(base64.b64decode(sent.urls[0].partition(",")[2])), photo(40, 30))


def test_storage_that_hangs_holds_up_no_edit_that_needs_none(desk: _Desk, photo: MakePhoto) -> None:
    desk.server.fail("upload", Fault.hang(0.8), times=5)
    with ThreadPoolExecutor(1) as edits:
        edits.submit(desk.send, *_pictures(photo, 5))
        _await(lambda: desk.server.count("upload") == 4)
        Sender(None, "lossless").addresses(_small(photo), 0, lambda: False, _silent)
        assert not any(parcel.address.done() for parcel in parcels.parcels._held.values())


def test_a_token_is_renewed_before_it_expires(
    desk: _Desk, photo: MakePhoto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(double_storage, "TOKEN_LIFETIME", timedelta(seconds=59))
    desk.send(photo(40, 30))
    desk.send(photo(41, 30))
    assert desk.counts() == {"token": 2, "upload": 2}
    monkeypatch.setattr(double_storage, "TOKEN_LIFETIME", timedelta(seconds=90))
    desk.send(*_pictures(photo, 6))
    assert desk.counts() == {"token": 3, "upload": 6}


def test_a_token_that_is_taken_back_is_renewed_once(desk: _Desk, photo: MakePhoto) -> None:
    desk.send(photo(40, 30))
    desk.server.storage.revoke()
    (url,) = desk.send(photo(41, 30)).urls
    assert np.array_equal(desk.shown(url), photo(41, 30))
    assert desk.counts() == {"token": 2, "upload": 3}
    desk.server.fail("upload", Fault.answer(401), times=2)
    desk.send(photo(42, 30))
    assert desk.counts() == {"token": 3, "upload": 6, "initiate": 1}


@pytest.mark.parametrize(
    ("phase", "fault", "counts"),
    [
        pytest.param("token", Fault.answer(404), {"token": 1}, id="unknown"),
        pytest.param("token", Fault.answer(405), {"token": 1}, id="another method"),
        pytest.param("token", Fault.answer(403), {"token": 1}, id="forbidden"),
        pytest.param("token", Fault.answer(200, {"token": "a b"}), {"token": 1}, id="incomplete"),
        pytest.param(
            "token",
            Fault.answer(200, TOKEN | {"token": "a\nb", "base_url": FOREIGN}),
            {"token": 1},
            id="no header",
        ),
        pytest.param(
            "token",
            Fault.answer(307, headers={"Location": FOREIGN}),
            {"token": 1},
            id="sent elsewhere",
        ),
        pytest.param("upload", Fault.answer(403), {"token": 1, "upload": 2}, id="no upload"),
        pytest.param("upload", Fault.answer(200, []), {"token": 1, "upload": 2}, id="no address"),
    ],
)
def test_the_documented_pair_where_tokens_lead_nowhere(
    desk: _Desk, photo: MakePhoto, phase: Phase, fault: Fault, counts: dict[str, int]
) -> None:
    desk.server.fail(phase, fault)
    (url,) = desk.send(photo(40, 30)).urls
    assert np.array_equal(desk.shown(url), photo(40, 30))
    assert json.loads(desk.file(url).lifecycle) == {"expiration_duration_seconds": 86400}
    assert desk.file(url).content_type == "image/png"
    assert desk.counts() == {"upload": 1, **counts, "initiate": 1}
    desk.send(photo(41, 30))
    assert desk.server.count("token") == 1, "asked again at once"
    _assert_no_key_at_the_upload_host(desk.server)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("phase", ["token", "upload"])
def test_the_documented_pair_where_the_failure_stays(
    desk: _Desk, photo: MakePhoto, phase: Phase
) -> None:
    if phase == "token":
        desk.server.fail(phase, Fault.answer(503), times=1000)
    else:
        upload = desk.server._desk._api._others["upload"]
        desk.server._desk._api._others["upload"] = lambda call: (
            Reply(500) if call.method == "POST" else upload(call)
        )
    (url,) = desk.send(photo(40, 30)).urls
    assert np.array_equal(desk.shown(url), photo(40, 30))
    assert desk.server.count(phase) > 2
    assert desk.server.count("initiate") == 1


def _assert_no_key_at_the_upload_host(server: FalServer) -> None:
    at_host = [request for request in server.requests if request.phase == "upload"]
    assert at_host
    assert not any(request.had_key for request in at_host)
    assert all(
        request.had_key for request in server.requests if request.phase in ("token", "initiate")
    )
    puts = [request for request in at_host if request.method == "PUT"]
    assert not any(request.authorized for request in puts)


def test_the_key_never_reaches_the_upload_host(desk: _Desk, photo: MakePhoto) -> None:
    desk.server.fail("upload", Fault.answer(500), times=2)
    desk.server.fail("upload", Fault.answer(401))
    desk.send(*_pictures(photo, 3))
    _assert_no_key_at_the_upload_host(desk.server)


@pytest.mark.parametrize("phase", ["token", "upload", "initiate", "put"])
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault.reset(), id="reset"),
        pytest.param(Fault.lose(), id="lost answer"),
        pytest.param(Fault.nginx(502), id="nginx"),
        pytest.param(Fault.nginx(504), id="gateway time-out"),
        pytest.param(Fault.throttle(0), id="throttled"),
        pytest.param(Fault.answer(408), id="slow request"),
        pytest.param(Fault.answer(500), id="broken"),
        pytest.param(Fault.truncate(9), id="truncated"),
        pytest.param(Fault.hang(0.1), id="late"),
    ],
)
def test_a_passing_failure_is_outlived(
    desk: _Desk, photo: MakePhoto, phase: Phase | Literal["put"], fault: Fault
) -> None:
    if phase in ("initiate", "put"):
        desk.server.fail("token", Fault.answer(404))
    at: Phase = "upload" if phase == "put" else phase
    times = 1 if fault.kind == "truncate" else 3
    desk.server.fail(at, fault, times)
    (url,) = desk.send(photo(40, 30)).urls
    assert np.array_equal(desk.shown(url), photo(40, 30))
    # The answer to a PUT has no body that could be cut.
    harmless = fault.kind == "hang" or (fault.kind == "truncate" and phase == "put")
    assert desk.server.count(at) == (1 if harmless else times + 1)


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_waited_for(desk: _Desk, photo: MakePhoto, as_date: bool) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    after = {"Retry-After": soon if as_date else "1"}
    desk.server.fail("upload", Fault.answer(429, headers=after))
    desk.send(photo(40, 30))
    first, second = (request.at for request in desk.server.requests if request.phase == "upload")
    assert second - first >= 0.8


@pytest.mark.usefixtures("impatient")
def test_told_to_slow_down_it_does_not_try_the_other_way(desk: _Desk, photo: MakePhoto) -> None:
    desk.server.fail("upload", Fault.throttle(60), times=9)
    with pytest.raises(RemoteError, match="status 429"):
        desk.send(photo(40, 30))
    assert desk.counts() == {"token": 1, "upload": 1}


def test_an_unknown_key(desk: _Desk, photo: MakePhoto) -> None:
    desk.key = "made-up:key"
    with pytest.raises(AccountError, match="dashboard/keys") as caught:
        desk.send(photo(40, 30))
    assert desk.counts() == {"token": 1}
    assert desk.key not in str(caught.value)
    desk.server.fail("token", Fault.answer(404))
    with pytest.raises(AccountError, match="dashboard/keys"):
        desk.send(photo(40, 30))
    assert desk.counts() == {"token": 2, "initiate": 1}


def test_an_account_without_storage(desk: _Desk, photo: MakePhoto) -> None:
    desk.server.fail("token", Fault.answer(403))
    desk.server.fail("initiate", Fault.answer(403))
    with pytest.raises(AccountError, match="dashboard/billing"):
        desk.send(photo(40, 30))
    assert desk.counts() == {"token": 1, "initiate": 1}


def test_a_picture_too_large_for_storage(desk: _Desk, photo: MakePhoto) -> None:
    desk.server.fail("upload", Fault.answer(413))
    with pytest.raises(InputError, match=r"Set upload_quality to jpeg 95, or .* smaller"):
        desk.send(photo(40, 30))
    assert desk.counts() == {"token": 1, "upload": 1}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", [Fault.answer(503, {"detail": "no disk"}), Fault.reset()])
def test_patience_ends_in_words_and_the_next_try_starts_anew(
    desk: _Desk, photo: MakePhoto, fault: Fault
) -> None:
    desk.server.fail("token", fault, times=1000)
    desk.server.fail("initiate", fault, times=1000)
    with pytest.raises(RemoteError, match="The pictures could not be uploaded: ") as caught:
        desk.send(photo(40, 30))
    assert type(caught.value) is RemoteError
    assert "no disk" not in str(caught.value)
    desk.server._desk.faults._planned.clear()
    (url,) = desk.send(photo(40, 30)).urls
    assert np.array_equal(desk.shown(url), photo(40, 30))


def test_a_failure_reaches_everybody_who_waits(desk: _Desk, photo: MakePhoto) -> None:
    at_door = threading.Barrier(4)

    def tell(done: int, total: int) -> None:
        at_door.wait(10)

    def attempt(_: int) -> type[Exception] | None:
        try:
            desk.send(photo(40, 30), tell=tell)
        except FireRedError as error:
            return type(error)
        return None

    desk.server.fail("token", Fault.hang(0.3))
    desk.server.fail("upload", Fault.answer(413))
    with ThreadPoolExecutor(4) as edits:
        outcomes = list(edits.map(attempt, range(4)))
    assert outcomes == [InputError] * 4
    assert desk.counts() == {"token": 1, "upload": 1}


def test_an_edit_that_comes_after_a_failure_does_not_share_it(
    desk: _Desk, photo: MakePhoto
) -> None:
    pixels, storage = photo(40, 30), desk.storage()
    desk.server.fail("upload", Fault.answer(413))
    wanted = {picture_digest(pixels, "lossless"): pixels}
    with parcels.parcels.hold(wanted, "lossless", storage) as held:
        (parcel,) = held.values()
        parcel.pack()
        parcel.ship()
        assert isinstance(parcel.address.exception(10), InputError)
        assert desk.send(pixels).uploaded == 1


def test_a_failure_to_encode_is_raised(
    desk: _Desk, photo: MakePhoto, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Pixels) -> bytes:
        raise MemoryError

    monkeypatch.setitem(parcels._ENCODERS, "lossless", ("png", fail))
    with pytest.raises(MemoryError):
        desk.send(*_pictures(photo, 3))
    monkeypatch.undo()


def test_cancel_returns_at_once(desk: _Desk, photo: MakePhoto) -> None:
    desk.server.fail("upload", Fault.hang(1.5))
    began = time.monotonic()
    with pytest.raises(EditCancelled):
        desk.send(photo(40, 30), stopped=lambda: desk.server.count("upload") > 0)
    assert time.monotonic() - began < 1.0


def test_cancel_ends_the_tries(desk: _Desk, photo: MakePhoto) -> None:
    desk.server.fail("upload", Fault.throttle(60), times=9)
    with pytest.raises(EditCancelled):
        desk.send(*_pictures(photo, 8), stopped=lambda: desk.server.count("upload") > 0)
    _await(lambda: not parcels._shippers._working)
    assert desk.server.count("upload") <= 4


def test_one_edit_cancelled_takes_nothing_from_others(desk: _Desk, photo: MakePhoto) -> None:
    desk.server.fail("upload", Fault.throttle(1))
    leaves = threading.Event()
    with ThreadPoolExecutor(3) as edits:
        leaving = edits.submit(desk.send, photo(40, 30), stopped=leaves.is_set)
        _await(lambda: desk.server.count("upload") == 1)
        staying = edits.submit(desk.send, photo(40, 30))
        _await(lambda: any(parcel.holders == 2 for parcel in parcels.parcels._held.values()))
        leaves.set()
        with pytest.raises(EditCancelled):
            leaving.result(0.5)
        joining = edits.submit(desk.send, photo(40, 30))
        (url,) = staying.result(10).urls
        assert joining.result(10).urls == [url]
    assert np.array_equal(desk.shown(url), photo(40, 30))
    assert desk.counts() == {"token": 1, "upload": 2}


def test_an_edit_that_comes_after_a_cancel_starts_anew(desk: _Desk, photo: MakePhoto) -> None:
    desk.server.fail("upload", Fault.throttle(60))
    with pytest.raises(EditCancelled):
        desk.send(photo(40, 30), stopped=lambda: desk.server.count("upload") > 0)
    assert desk.send(photo(40, 30)).uploaded == 1


@pytest.mark.parametrize("left_s", [1, -1])
def test_an_address_in_its_last_hour_is_not_used(
    desk: _Desk, photo: MakePhoto, monkeypatch: pytest.MonkeyPatch, left_s: int
) -> None:
    (first,) = desk.send(photo(40, 30)).urls
    later = time.time() + desk.lifetime_s - storage.MARGIN_S - left_s
    monkeypatch.setattr(double_storage, "TOKEN_LIFETIME", timedelta(days=9))
    with monkeypatch.context() as clock:
        clock.setattr(time, "time", lambda: later)
        (second,) = desk.send(photo(40, 30)).urls
    assert (first == second) == (left_s > 0)


def test_a_short_life_is_not_remembered(desk: _Desk, photo: MakePhoto) -> None:
    desk.lifetime_s = storage.MARGIN_S
    (url,) = desk.send(photo(40, 30)).urls
    assert json.loads(desk.file(url).lifecycle) == {"expiration_duration_seconds": 3600}
    assert not desk.notes.entries


def test_forgotten_addresses_are_uploaded_anew(desk: _Desk, photo: MakePhoto) -> None:
    first = desk.send(*_pictures(photo, 2))
    desk.notes.forget_uploads(first.urls[:1])
    second = desk.send(*_pictures(photo, 2))
    assert first.urls[0] != second.urls[0]
    assert first.urls[1] == second.urls[1]


@pytest.mark.parametrize(
    ("phase", "document"),
    [
        ("token", TOKEN | {"base_url": FOREIGN}),
        ("upload", {"access_url": FOREIGN + "/a.png"}),
        ("initiate", {"upload_url": FOREIGN + "/put", "file_url": FOREIGN + "/a.png"}),
    ],
)
def test_a_foreign_host_is_named_and_sent_nothing(
    desk: _Desk, photo: MakePhoto, phase: Phase, document: dict[str, Any]
) -> None:
    if phase == "initiate":
        desk.server.fail("token", Fault.answer(404))
    desk.server.fail(phase, Fault.answer(200, document))
    with pytest.raises(RemoteError, match=FOREIGN):
        desk.send(photo(40, 30))
    assert not desk.notes.entries


def test_the_digest_is_of_shape_pixels_and_quality(photo: MakePhoto) -> None:
    pixels = photo(40, 30)
    digests = {
        picture_digest(pixels, "lossless"),
        picture_digest(pixels, "jpeg 95"),
        picture_digest(pixels.reshape(40, 30, 3), "lossless"),
        picture_digest(pixels[:, ::-1], "lossless"),
    }
    assert len(digests) == 4
    assert picture_digest(pixels[::2, ::2], "lossless") == picture_digest(
        pixels[::2, ::2].copy(), "lossless"
    )


def test_the_digest_copies_no_picture() -> None:
    pixels = np.zeros((1000, 1000, 3), np.uint8)
    tracemalloc.start()
    picture_digest(pixels, "lossless")
    picture_digest(pixels[:, ::-1], "lossless")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < pixels.nbytes / 10


def _uri(pixels: Pixels, quality: UploadQuality) -> str:
    kind, encode = ("png", encode_png) if quality == "lossless" else ("jpeg", encode_jpeg)
    return f"data:image/{kind};base64,{base64.b64encode(encode(pixels)).decode()}"


def _silent(done: int, total: int) -> None:
    """Hear nothing."""


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.005)


def test_a_picture_is_encoded_once_however_often_it_is_edited(
    desk: _Desk, photo: MakePhoto, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = desk.send(photo(64, 48))

    def fail(_: Pixels) -> bytes:
        raise MemoryError

    monkeypatch.setitem(parcels._ENCODERS, "lossless", ("png", fail))
    assert desk.send(photo(64, 48)).urls == first.urls


def test_encoded_pictures_take_no_more_room_than_allowed() -> None:
    kept = encoded.Encoded(limit=10)
    for name in "abc":
        kept.put(name, name.encode() * 4)
        kept.get("a")
    kept.put("c", b"c" * 5)
    assert [kept.get(name) for name in "abc"] == [b"aaaa", None, b"ccccc"]
    kept.put("d", b"d" * 11)
    assert kept.get("d") is None
