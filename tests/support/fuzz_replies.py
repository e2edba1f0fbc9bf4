"""Answers of fal made wrong at random: their bodies, and what is said around these."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from doubles.fal_server.faults import Phase
from doubles.fal_server.replies import Reply
from support.fuzz_json import HOSTILE_URLS, KEY, LONG, MUTATIONS, SECRET

OVERSIZED = 24 * 1024 * 1024
"""Bytes; above every limit that a trial sets."""

PIECE = 256 * 1024

Change = Callable[[Reply, random.Random], Reply]


class Wrong(NamedTuple):
    """A way to make an answer wrong, and what to call it."""

    name: str
    change: Change


def _document(mutation: Callable[[Any, random.Random], bytes]) -> Wrong:
    def change(reply: Reply, rng: random.Random) -> Reply:
        return replace(reply, body=mutation(json.loads(reply.body), rng))

    return Wrong(mutation.__name__.replace("_", " "), change)


def several(reply: Reply, rng: random.Random) -> Reply:
    """A few things wrong at a time, as long as it stays JSON."""
    for _ in range(rng.randrange(2, 5)):
        try:
            document = json.loads(reply.body)
        except (ValueError, RecursionError):
            return reply
        reply = replace(reply, body=rng.choice(MUTATIONS)(document, rng))
    return reply


def no_success(reply: Reply, rng: random.Random) -> Reply:
    """A status that says nothing about what became of the request."""
    statuses = (204, 206, 300, 405, 408, 425, 429, 500, 501, 502, 503, 504, 520, 599)
    return replace(reply, status=rng.choice(statuses))


def redirect(reply: Reply, rng: random.Random) -> Reply:
    leads = [*filter(_fits_a_header, HOSTILE_URLS), "/elsewhere", "http://127.0.0.1:9/"]
    headers = {**reply.headers, "Location": rng.choice(leads)}
    return replace(reply, status=rng.choice((301, 302, 303, 307, 308)), headers=headers)


def _fits_a_header(text: str) -> bool:
    return text.isascii() and text.isprintable() and len(text) < 60_000


def content_type(reply: Reply, rng: random.Random) -> Reply:
    types = (
        "",
        "text/html",
        "image/svg+xml",
        "application/json; charset=utf-16",
        "a" * 5000,
        "\xff",
    )
    return replace(reply, headers={**reply.headers, "Content-Type": rng.choice(types)})


def content_length(reply: Reply, rng: random.Random) -> Reply:
    """Another length than the true one, said beside it or in its place."""
    lengths = (
        "0",
        "-1",
        "7",
        "1e3",
        "99999999999999999999",
        "NaN",
        " 12",
        "+5",
        "0x10",
        "1, 2",
        "",
    )
    return replace(reply, headers={"Content-Length": rng.choice(lengths), **reply.headers})


def content_encoding(reply: Reply, rng: random.Random) -> Reply:
    """Packed as is said, or said to be packed and not, or broken on the way."""
    name, pack = rng.choice(
        (
            ("gzip", gzip.compress),
            ("deflate", zlib.compress),
            ("gzip", bytes),
            ("deflate", bytes),
            ("br", bytes),
            ("zstd", bytes),
            ("gzip, gzip, deflate", bytes),
            ("gzip", lambda body: gzip.compress(body)[:-9]),
            ("x" * 500, bytes),
        )
    )
    headers = {**reply.headers, "Content-Encoding": name}
    return replace(reply, body=pack(reply.body), headers=headers)


def bomb(reply: Reply, _: random.Random) -> Reply:
    """A few kilobytes that unpack to more than is taken."""
    packed = gzip.compress(b" " * OVERSIZED, 6)
    return replace(reply, body=packed, headers={**reply.headers, "Content-Encoding": "gzip"})


def oversized(reply: Reply, rng: random.Random) -> Reply:
    """A body that does not end for long, its length not told."""
    filling = rng.choice((b" ", b"[", b"\x00", b'"'))

    def pieces() -> Iterator[bytes]:
        yield reply.body or b" "
        for _ in range(OVERSIZED // PIECE):
            yield filling * PIECE

    return replace(reply, events=pieces())


def junk_headers(reply: Reply, rng: random.Random) -> Reply:
    """Headers that are read, with what nobody would expect in them; many; long ones."""
    numbers = ("-1", "1e999", "NaN", "1e300", "9" * 400, "1_0", "\xb2", "", "one", "0x1", KEY)
    dates = ("0", "-5", "99999999999", "Mon, 99 Foo 0000", "Fri, 31 Dec 9999 23:59:59 -2359", "")
    others = {f"X-Junk-{n}": "\xff\x7f" * rng.randrange(40) for n in range(rng.randrange(90))}
    known = {
        "x-fal-billable-units": rng.choice(numbers),
        "Retry-After": rng.choice(dates),
        "Set-Cookie": rng.choice(("a=b; Domain=127.0.0.1", ";;;=", "=" * 3000, f"key={SECRET}")),
        "x-fal-request-id": rng.choice(("", "\xff", "x" * 3000, KEY)),
        "WWW-Authenticate": f'Key realm="{KEY}"',
        "Connection": rng.choice(("close", "keep-alive, close", "upgrade", "\xff")),
        "Transfer-Encoding": rng.choice(("identity", "gzip", "chunked, chunked", "\xff")),
    }
    chosen = {name: value for name, value in known.items() if rng.random() < 0.4}
    return replace(reply, headers={**reply.headers, **others, **chosen})


def endless_headers(reply: Reply, rng: random.Random) -> Reply:
    """More headers than are read, or one that is too long."""
    many = {f"X-{n}": "1" for n in range(300)}
    headers = rng.choice((many, {"X-Long": "a" * 100_000}, {"x-fal-error-type": "a" * 70_000}))
    return replace(reply, headers={**reply.headers, **headers})


AROUND = (
    content_type,
    content_length,
    content_encoding,
    bomb,
    oversized,
    junk_headers,
    junk_headers,
    endless_headers,
    redirect,
    no_success,
)
"""For any answer."""

JSON = (*map(_document, MUTATIONS), Wrong("several", several))


def junk_events(reply: Reply, rng: random.Random) -> Reply:
    """A stream whose events are wrong, cut anywhere, or more than one would read."""
    known = list(reply.events or ())
    made = [_event(event, rng) for event in [*known, *known]]
    rng.shuffle(made)
    whole = b"".join(made)
    cuts = sorted(rng.randrange(len(whole) + 1) for _ in range(rng.randrange(9)))
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    return replace(reply, events=iter([part for part in parts if part]))


def _event(event: bytes, rng: random.Random) -> bytes:
    others = (
        b"data: " + b"[" * 10_000 + b"\n\n",
        b"data: " + b"a" * LONG + b"\n\n",
        b"data:\n" * 1000 + b"\n",
        b"\xff\xfe\r\r\n\n",
        b": ping\n\n",
        b"retry: 99999999999999999999\nid: \x00\n\n",
    )
    if rng.random() < 0.3 or not event.startswith(b"data: "):
        return rng.choice(others)
    # A stream that says so before its time only has the result asked for too early.
    mutation = rng.choice(MUTATIONS)
    return (
        b"data: " + mutation(json.loads(event[6:]), rng) + rng.choice((b"\n\n", b"\r\n\r\n", b"\n"))
    )


def junk_logs(reply: Reply, rng: random.Random) -> Reply:
    """Thousands of log lines, and what should not be shown in the last one."""
    last = rng.choice(
        (f"the key is {KEY}", SECRET, "\ud800", "data:" * 9999, "a b " * 9999, "\x1b[2J")
    )
    logs = [{"message": f"{n} {'x' * 200}", "timestamp": n} for n in range(rng.choice((1, 3000)))]
    document = {"status": "IN_PROGRESS", "logs": [*logs, {"message": last}]}
    made = f"data: {json.dumps(document)}\n\n".encode()
    return replace(reply, events=iter([made, *(reply.events or ())]))


def broken_picture(reply: Reply, rng: random.Random) -> Reply:
    """Bytes of a picture that were changed, cut or put in another's place."""
    body = bytearray(reply.body or b"404")
    match rng.randrange(4):
        case 0:
            del body[rng.randrange(len(body)) :]
        case 1:
            for _ in range(rng.randrange(1, 9)):
                body[rng.randrange(len(body))] ^= rng.randrange(1, 256)
        case 2:
            place = rng.randrange(len(body))
            body[place:place] = rng.randbytes(rng.randrange(1, 99))
        case _:
            body[:] = rng.choice((b"<svg/>", b"PK\x03\x04", b"GIF89a", b"%PDF", b"", b"\x00" * 999))
    return replace(reply, body=bytes(body))


STREAM = (Wrong("junk events", junk_events), Wrong("junk logs", junk_logs))
PICTURE = (Wrong("broken picture", broken_picture),)


def ways(phase: Phase) -> list[Wrong]:
    """What can be wrong about an answer to ``phase``."""
    around = [Wrong(change.__name__.replace("_", " "), change) for change in AROUND]
    own = {"stream": STREAM, "get": PICTURE}.get(phase, JSON)
    weight = max(1, len(around) // len(own))
    return [*around, *(list(own) * weight)]
