"""Hosts, keys, prices and the payload: everything on the fal side that needs no server."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from firered_edit.pipeline.errors import CostError, MissingKeyError, RemoteError, SetupError
from firered_edit.pipeline.fal.keys import KEY_FILE, find_key
from firered_edit.pipeline.fal.payload import FalOptions, build_payload
from firered_edit.pipeline.fal.pricing import Budget, cost_of, estimate
from firered_edit.pipeline.fal.protocol.hosts import Hosts
from firered_edit.pipeline.geometry import Custom, Preset, Size, SizePolicy
from firered_edit.pipeline.preparation import prepare
from firered_edit.pipeline.request import EditRequest

HOME = Hosts.from_environment({})
LOOPBACK = Hosts.from_environment({"FAL_QUEUE_RUN_HOST": "http://127.0.0.1:8000/"})


def test_without_settings_only_fal_is_asked() -> None:
    assert (HOME.queue, HOME.rest) == ("https://queue.fal.run", "https://rest.fal.ai")


def test_a_key_for_an_own_queue_is_shown_to_no_other_host() -> None:
    assert (LOOPBACK.rest, LOOPBACK.api) == (None, None)
    named = Hosts.from_environment({"FAL_REST_HOST": "http://127.0.0.1:8001"})
    assert (named.rest, named.api) == ("http://127.0.0.1:8001", "http://127.0.0.1:8001")


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("proxy.example:8443", "https://proxy.example:8443"),
        ("https://proxy.example/fal", "https://proxy.example/fal"),
        ("http://127.0.0.1:9", "http://127.0.0.1:9"),
        ("http://localhost:9", "http://localhost:9"),
        ("http://[::1]:9", "http://[::1]:9"),
    ],
)
def test_an_operator_may_name_another_host(value: str, address: str) -> None:
    assert Hosts.from_environment({"FAL_QUEUE_RUN_HOST": value}).queue == address


@pytest.mark.parametrize("value", ["http://proxy.example", "http://10.0.0.1", "ftp://localhost"])
def test_plain_http_is_for_loopback_only(value: str) -> None:
    with pytest.raises(SetupError, match="not https"):
        Hosts.from_environment({"FAL_REST_HOST": value})


@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        (HOME, "https://v3b.fal.media/files/b/x.png"),
        (HOME, "https://fal.media/x.png"),
        (LOOPBACK, "http://127.0.0.1:8000/files/x.png"),
        (LOOPBACK, "https://v3.fal.media/x.png"),
    ],
)
def test_pictures_come_from_fal_or_the_named_host(hosts: Hosts, url: str) -> None:
    assert hosts.check_picture_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://v3.fal.media/x.png",
        "https://evil.example/x.png",
        "https://notfal.media/x.png",
        "https://fal.media.evil.example/x.png",
        "https://fal.media@evil.example/x.png",
        "http://127.0.0.1:8001/x.png",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
    ],
)
def test_pictures_from_elsewhere_are_refused(url: str) -> None:
    with pytest.raises(RemoteError, match="not one of fal's"):
        LOOPBACK.check_picture_url(url)


def test_the_key_goes_only_where_the_job_was_submitted() -> None:
    assert HOME.check_job_url("https://queue.fal.run/x/requests/1/status")
    with pytest.raises(RemoteError, match=r"evil\.example"):
        HOME.check_job_url("https://evil.example/x/requests/1/status")


@pytest.mark.parametrize(
    ("environ", "key"),
    [
        ({"FAL_KEY": " a:b\n"}, "a:b"),
        ({"FAL_KEY_ID": "a", "FAL_KEY_SECRET": "b"}, "a:b"),
        ({"FAL_KEY": "a:b", "FAL_KEY_ID": "c", "FAL_KEY_SECRET": "d"}, "a:b"),
        ({"FAL_KEY_ID": "a"}, "from:file"),
        ({}, "from:file"),
    ],
)
def test_the_environment_comes_before_the_key_file(
    environ: dict[str, str], key: str, tmp_path: Path
) -> None:
    (tmp_path / KEY_FILE).write_text("from:file\n")
    assert find_key(environ, tmp_path) == key


def test_a_missing_key_says_where_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(MissingKeyError, match=r"fal\.ai/dashboard/keys"):
        find_key({}, tmp_path)


def test_the_price_is_known_exactly_and_rounded_up() -> None:
    price = estimate(Size(1024, 1024), 2)
    assert price.exact == pytest.approx(1.048576 * 0.0325 * 2)
    assert price.rounded_up == pytest.approx(2 * 0.0325 * 2)


def test_the_budget_is_one_for_all_edits_of_a_run() -> None:
    own, price = Budget(), estimate(Size(1000, 1000), 1)
    own.reserve("run", price, 0.07)
    own.reserve("run", price, 0.07)
    with pytest.raises(CostError, match="max_cost"):
        own.reserve("run", price, 0.07)
    own.reserve("next run", price, 0.07)


def test_what_was_not_ordered_does_not_count() -> None:
    own, price = Budget(), estimate(Size(1000, 1000), 1)
    own.reserve("run", price, 0.04)
    own.release("run", price)
    own.reserve("run", price, 0.04)
    own.release("a run unheard of", price)


def test_a_budget_of_nothing_allows_nothing() -> None:
    with pytest.raises(CostError):
        Budget().reserve("run", estimate(Size(64, 64), 1), 0.0)


def test_what_fal_does_not_bill_in_words_is_unknown() -> None:
    assert cost_of(2.0) == pytest.approx(0.065)
    assert cost_of(None) == "unknown"


SPEC_FIELDS = {
    "prompt",
    "image_urls",
    "image_size",
    "num_inference_steps",
    "seed",
    "guidance_scale",
    "sync_mode",
    "num_images",
    "enable_safety_checker",
    "output_format",
    "negative_prompt",
    "acceleration",
}
"""Every input of fal's endpoint document."""


def test_every_field_of_the_document_is_sent(asked: EditRequest) -> None:
    asked = replace(
        asked,
        prompt="wear @image2",
        num_images=2,
        num_inference_steps=9,
        guidance_scale=3.5,
        negative_prompt="blur",
        acceleration="high",
    )
    options = FalOptions(enable_safety_checker=False, output_format="jpeg", sync_mode=True)
    payload = build_payload(prepare(asked), options, ["data:1", "data:2"])
    assert payload == {
        "prompt": "wear Picture 2",
        "image_urls": ["data:1", "data:2"],
        "image_size": {"width": 128, "height": 96},
        "num_inference_steps": 9,
        "seed": 7,
        "guidance_scale": 3.5,
        "sync_mode": True,
        "num_images": 2,
        "enable_safety_checker": False,
        "output_format": "jpeg",
        "negative_prompt": "blur",
        "acceleration": "high",
    }
    assert payload.keys() == SPEC_FIELDS
    assert json.loads(json.dumps(payload)) == payload


@pytest.mark.parametrize(
    ("size", "working", "expected"),
    [
        (Preset("landscape_16_9"), 0.0, "landscape_16_9"),
        (Preset("landscape_16_9"), 0.25, {"width": 688, "height": 384}),
        (Custom(512, 512), 0.0, {"width": 512, "height": 512}),
        (Custom(500, 333), 0.0, {"width": 512, "height": 336}),
    ],
)
def test_the_size_is_always_explicit(
    asked: EditRequest, size: SizePolicy, working: float, expected: Any
) -> None:
    prepared = prepare(replace(asked, size=size, working_megapixels=working))
    assert build_payload(prepared, FalOptions(), [])["image_size"] == expected
