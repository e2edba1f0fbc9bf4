"""JSON documents made wrong at random, one place at a time."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

DEPTH = 10_000
LONG = 200_000

SECRET = "5ec2e75ec2e75ec2e75ec2e75ec2e75e"
KEY = f"0a1b2c3d-0000-4000-8000-00000000fa15:{SECRET}"
"""The account's key, which a server may say back in any place."""

HOSTILE_URLS = (
    "file:///etc/passwd",
    "data:text/html;base64,PHNjcmlwdD4=",
    "DATA:image/png;base64,iVBORw0KGgo=",
    "javascript:alert(1)",
    "ftp://fal.media/1.png",
    "http://fal.media/1.png",
    "https://fal.media@evil.example/1.png",
    "https://fal.media:secret@evil.example/1.png",
    "https://evil.example/fal.media/1.png",
    "https://evil.example#fal.media/1.png",
    "https://evil.example?fal.media/1.png",
    "https://evil.example\\@fal.media/1.png",
    "https://fal.media.evil.example/1.png",
    "https://evilfal.media/1.png",
    "https://fal.media\r\nHost: evil.example/1.png",
    "https://fal.media%0d%0aHost:%20evil.example/1.png",
    "https://xn--fal-4ia.media/1.png",
    "https://f\u0430l.media/1.png",
    "https://fal\u3002media/1.png",
    "https://fal.media\u2044evil.example/1.png",
    "https://[::1]/1.png",
    "https://[::ffff:127.0.0.1]/1.png",
    "https://[fal.media]/1.png",
    "https://2130706433/1.png",
    "https://0x7f.1/1.png",
    "https://017700000001/1.png",
    "http://169.254.169.254/latest/meta-data/",
    "http://127.0.0.1:9/1.png",
    "http://localhost:9/1.png",
    "https://v3.fal.media:99999/1.png",
    "https://v3.fal.media:-1/1.png",
    "https://v3.fal.media:0/1.png",
    "https://v3.fal.media/no-such-file.png",
    "https:fal.media/1.png",
    "https:///fal.media/1.png",
    "//fal.media/1.png",
    "\\\\evil.example\\share\\1.png",
    "",
    " ",
    "https://" + "a" * 300 + ".fal.media/1.png",
    "https://fal.media/" + "a" * 100_000,
    "https://" + "fal.media." * 20_000 + "evil.example/",
)
"""Addresses that no picture, job or upload is taken from or sent to, or that lead nowhere."""

_RAW = {
    "@deep-list@": "[" * DEPTH + "]" * DEPTH,
    "@deep-object@": '{"a":' * DEPTH + "1" + "}" * DEPTH,
    "@huge@": "1e400",
    "@minus-huge@": "-1e400",
    "@digits@": "1" * 4000,
    "@too-many-digits@": "1" * 5000,
    "@nan@": "NaN",
    "@infinity@": "-Infinity",
    "@minus-zero@": "-0",
    "@surrogate@": '"\\ud800 \\udfff"',
}
"""What ``json.dumps`` does not write, by a text that stands for it."""

VALUES: Sequence[Any] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63), 2**64, 10**30),
    *(0.5, -0.5, 1e-300, 1e300, "", "0", "-1", "1e999", "NaN", "null", "true"),
    *([], {}, [None], [[]], [{}], {"": None}, {"url": None}, {"detail": []}),
    *("a" * LONG, "\u0000\u0007\u001b[31m", "\u202e\u200b\ufeff", "%s%n{0}", "../../etc/passwd"),
    *("data:" * (LONG // 5), "data:image/png;base64," + "A" * LONG),
    *(KEY, f"Key {KEY}", SECRET, f"https://{SECRET}.evil.example/{KEY}"),
    *("COMPLETED", "IN_QUEUE", "IN_PROGRESS", "\U0001f600" * 100),
    *_RAW,
)

Path = tuple[Any, ...]
Mutation = Callable[[Any, random.Random], bytes]


def places(document: Any, path: Path = ()) -> Iterator[Path]:
    """Where a document has values, itself included."""
    yield path
    if isinstance(document, dict):
        for name, value in document.items():
            yield from places(value, (*path, name))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from places(value, (*path, index))


def replaced(document: Any, path: Path, value: Any) -> Any:
    """A copy of ``document`` with another value at ``path``."""
    if not path:
        return value
    copy = document.copy()
    copy[path[0]] = replaced(document[path[0]], path[1:], value)
    return copy


def at(document: Any, path: Path) -> Any:
    for step in path:
        document = document[step]
    return document


def rendered(document: Any) -> bytes:
    """``document`` as JSON, with what stands for something unwritable written out."""
    text = json.dumps(document)
    for mark, raw in _RAW.items():
        text = text.replace(json.dumps(mark), raw)
    return text.encode()


def another_value(document: Any, rng: random.Random) -> bytes:
    path = rng.choice(list(places(document)))
    return rendered(replaced(document, path, rng.choice(VALUES)))


def another_address(document: Any, rng: random.Random) -> bytes:
    """A hostile address where there was one, or a text."""
    texts = [path for path in places(document) if isinstance(at(document, path), str)]
    if not texts:
        return another_value(document, rng)
    addresses = [path for path in texts if "://" in at(document, path)]
    value = rng.choice(HOSTILE_URLS)
    return rendered(replaced(document, rng.choice(addresses or texts), value))


def missing_member(document: Any, rng: random.Random) -> bytes:
    paths = [path for path in places(document) if path]
    if not paths:
        return b""
    *parent, last = rng.choice(paths)
    holder = at(document, tuple(parent)).copy()
    del holder[last]
    return rendered(replaced(document, tuple(parent), holder))


def additional_members(document: Any, rng: random.Random) -> bytes:
    if not isinstance(document, dict):
        return rendered([document, rng.choice(VALUES)])
    added = {
        f"{'x' * rng.randrange(40)}{n}": rng.choice(VALUES) for n in range(rng.randrange(1, 9))
    }
    return rendered({**added, **document})


def duplicate_key(document: Any, rng: random.Random) -> bytes:
    """Twice the same name: the first value or the last is the true one."""
    text = rendered(document)
    if not isinstance(document, dict) or not document:
        return text + text
    name, value = rng.choice(list(document)), rendered(rng.choice(VALUES))
    member = json.dumps(name).encode() + b": " + value
    if rng.random() < 0.5:
        return b"{" + member + b", " + text[1:]
    return text[:-1] + b", " + member + b"}"


def repeated_items(document: Any, rng: random.Random) -> bytes:
    """A list with its items over and over, or an object in a list."""
    lists = [path for path in places(document) if isinstance(at(document, path), list)]
    if not lists:
        return rendered([document])
    path = rng.choice(lists)
    return rendered(replaced(document, path, at(document, path) * rng.choice((0, 2, 50))))


def wrong_encoding(document: Any, rng: random.Random) -> bytes:
    text = json.dumps(document)
    encodings = ("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-16-be")
    return text.encode(rng.choice(encodings))


def broken_bytes(document: Any, rng: random.Random) -> bytes:
    body = bytearray(rendered(document))
    for _ in range(rng.randrange(1, 6)):
        body[rng.randrange(len(body))] = rng.choice((0x00, 0x22, 0x5C, 0x7B, 0xC0, 0xED, 0xFF))
    return bytes(body)


def cut_short(document: Any, rng: random.Random) -> bytes:
    body = rendered(document)
    return body[: rng.randrange(len(body))]


def not_json(_: Any, rng: random.Random) -> bytes:
    deep = ("[", '{"a":', '{"detail":[', '[{"":')
    others = (
        b"",
        b" ",
        b"<html>nginx</html>",
        b"\x00" * 100,
        b"null",
        b'"text"',
        b"{}}",
        b"{" * 99,
    )
    return rng.choice([*others, *(word.encode() * DEPTH for word in deep)])


MUTATIONS: tuple[Mutation, ...] = (
    another_value,
    another_value,
    another_value,
    another_address,
    another_address,
    missing_member,
    additional_members,
    duplicate_key,
    repeated_items,
    wrong_encoding,
    broken_bytes,
    cut_short,
    not_json,
)
"""The more there is to choose within one, the more often it is here."""
