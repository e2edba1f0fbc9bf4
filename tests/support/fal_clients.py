"""The clients that fal_speed.py compares; one of them per process, told what to do line by line.

Arguments: the client's name and a folder for whatever it keeps. Each line of JSON on stdin asks for
a batch of edits; the line that answers it tells when it began and ended, on the monotonic clock,
and the CPU time it took. All clients do the same: from pixels to pixels, one picture each way.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from doubles.fal_server.settings import APP_ID
from support.pack import load_pack

if TYPE_CHECKING:
    from firered_edit.pipeline.images import Pixels

PROMPT = "Make the sky pink"
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Batch:
    """One edit per seed of a square picture, on so many threads."""

    seeds: list[int]
    side: int
    steps: int
    threads: int = 1


@dataclass(frozen=True)
class Spent:
    """Clock in seconds as time.monotonic() tells it, which is one for all processes."""

    started: float
    ended: float
    cpu_s: float


Edit = Callable[[Batch, "Pixels", int], None]
"""Edits a picture, (H, W, 3), with a seed."""


def ours(folder: Path) -> Edit:
    load_pack()
    from firered_edit.pipeline.fal.engine import FalEngine, FalOptions
    from firered_edit.pipeline.geometry import MatchImage
    from firered_edit.pipeline.host import PlainHost
    from firered_edit.pipeline.images import Reference
    from firered_edit.pipeline.request import EditRequest

    def edit(batch: Batch, pixels: Pixels, seed: int) -> None:
        request = EditRequest(
            prompt=PROMPT,
            references=(Reference(pixels),),
            size=MatchImage(),
            num_images=1,
            seed=seed,
            num_inference_steps=batch.steps,
            guidance_scale=4.0,
            negative_prompt="",
            acceleration="regular",
            working_megapixels=0.0,
        )
        FalEngine(PlainHost(data_folder=folder)).edit(request, FalOptions())

    return edit


def official(_folder: Path) -> Edit:
    """fal's own client for Python, with its own encoder and the HTTP library it brings."""
    import fal_client
    import httpx

    client, web = fal_client.SyncClient(), httpx.Client()

    def edit(batch: Batch, pixels: Pixels, seed: int) -> None:
        url = fal_client.encode_image(Image.fromarray(pixels), "png")
        answer = client.subscribe(APP_ID, _arguments(batch, url, seed))
        _decode(web.get(answer["images"][0]["url"]).content)

    return edit


def poller(_folder: Path) -> Edit:
    """What is written in an afternoon: ask every second whether it is done."""
    import fal_client
    import requests

    session = requests.Session()
    key = {"Authorization": f"Key {os.environ['FAL_KEY']}"}
    queue = f"https://{os.environ['FAL_QUEUE_RUN_HOST']}/{APP_ID}"

    def edit(batch: Batch, pixels: Pixels, seed: int) -> None:
        url = fal_client.encode_image(Image.fromarray(pixels), "png")
        job = session.post(queue, json=_arguments(batch, url, seed), headers=key).json()
        while session.get(job["status_url"], headers=key).json()["status"] != "COMPLETED":
            time.sleep(POLL_SECONDS)
        answer = session.get(job["response_url"], headers=key).json()
        _decode(session.get(answer["images"][0]["url"]).content)

    return edit


CLIENTS = {"ours": ours, "fal_client": official, "1 s poller": poller}


def _arguments(batch: Batch, url: str, seed: int) -> dict[str, Any]:
    return {
        "prompt": PROMPT,
        "image_urls": [url],
        "image_size": {"width": batch.side, "height": batch.side},
        "num_inference_steps": batch.steps,
        "seed": seed,
    }


def _decode(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def _photo(side: int) -> Pixels:
    """Smooth and coloured, with the noise of a good sensor: it compresses as a photo does."""
    x, y = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side))
    smooth = np.stack([x, y, 0.5 + 0.5 * np.sin(6 * x + 4 * y)], axis=-1)
    noise = np.random.default_rng(side).normal(0, 1.5 / 255, smooth.shape)
    return np.rint(np.clip(smooth + noise, 0, 1) * 255).astype(np.uint8)


def _carry_out(edit: Edit, batch: Batch) -> Spent:
    once = partial(edit, batch, _photo(batch.side))
    started, cpu = time.monotonic(), time.process_time()
    if batch.threads == 1:
        for seed in batch.seeds:
            once(seed)
    else:
        with ThreadPoolExecutor(batch.threads) as pool:
            list(pool.map(once, batch.seeds))
    return Spent(started, time.monotonic(), time.process_time() - cpu)


def main() -> None:
    name, folder = sys.argv[1:]
    edit = CLIENTS[name](Path(folder))
    for line in sys.stdin:
        spent = _carry_out(edit, Batch(**json.loads(line)))
        sys.stdout.write(json.dumps(asdict(spent)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
