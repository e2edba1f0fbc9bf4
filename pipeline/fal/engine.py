"""One edit on fal: check, price, send, wait, fetch."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache, partial

import requests
import torch

from ..canvas import restore
from ..errors import EditCancelled, FlaggedError, RemoteError, ResultError
from ..host import RemoteHost
from ..images import Pixels, check_shown, decode, to_tensor
from ..preparation import Prepared, Stopwatch, prepare
from ..request import TRAINED_REFERENCES, EditRequest, EditResult
from .answers import Answer, Job
from .client import FalClient, new_session
from .hosts import ENDPOINT, Hosts
from .keys import find_key
from .payload import FalOptions, build_payload, data_uri
from .pricing import Estimate, budget, cost_of, estimate
from .waiting import attend, submit, wait

__all__ = ["FalEngine", "FalOptions"]

DOWNLOAD_TRIES = 3


class FalEngine:
    """Carries out edits on fal's endpoint, with the key and hosts of this machine."""

    def __init__(self, host: RemoteHost) -> None:
        self._host = host

    def edit(self, request: EditRequest, options: FalOptions) -> EditResult:
        """Run ``request``; blocks until the pictures are here.

        Key, inputs and price are checked before anything is sent. Raises ``FireRedError``, or
        ``EditCancelled`` after telling fal to stop.
        """
        prepared = _with_notice(prepare(request))
        options.check()
        hosts = Hosts.from_environment(os.environ)
        key = find_key(os.environ, self._host.data_folder)
        client = FalClient(key, hosts, _session())
        price = estimate(prepared.plan.canvas, request.num_images)
        budget.reserve(self._host.run_id, price, options.max_cost)
        return _Run(prepared, options, client, self._host, price).carry_out()


@contextmanager
def _naming(job: Job) -> Iterator[None]:
    """Put the request id, by which fal's dashboard finds the job, into every error of it."""
    try:
        yield
    except RemoteError as error:
        named = f"Request {job.request_id}: {error.problem}"
        raise type(error)(named, error.remedy) from error


def _with_notice(prepared: Prepared) -> Prepared:
    count = len(prepared.request.references)
    if count <= TRAINED_REFERENCES:
        return prepared
    notice = (
        f"the model was trained with {TRAINED_REFERENCES} pictures and is sent {count}: some may "
        "be overlooked"
    )
    return replace(prepared, notices=(*prepared.notices, notice))


@cache
def _session() -> requests.Session:
    return new_session()


class _Run:
    """One edit on its way through fal."""

    def __init__(
        self,
        prepared: Prepared,
        options: FalOptions,
        client: FalClient,
        host: RemoteHost,
        price: Estimate,
    ) -> None:
        self._prepared = prepared
        self._options = options
        self._client = client
        self._host = host
        self._price = price
        self._watch = Stopwatch()
        self._returned: list[str] = []

    def carry_out(self) -> EditResult:
        with self._watch.phase("send"):
            job = self._submit()
        with _naming(job):
            with self._watch.phase("wait"):
                wait(self._client, job, self._host)
            with self._watch.phase("fetch"):
                answer = attend(partial(self._client.result, job), self._host)
                images, withheld = self._fetch(answer)
        self._host.progress(100, 100)
        self._host.say("\n".join([self._prepared.summary(), *withheld, _cost_line(answer)]))
        return self._result(job, answer, images, withheld)

    def _submit(self) -> Job:
        self._host.say(f"uploading, {self._price}")
        self._host.progress(0, 100)
        quality = self._options.upload_quality
        urls = [data_uri(pixels, quality) for pixels in self._prepared.placed_references()]
        if self._host.cancelled():
            raise EditCancelled
        payload = build_payload(self._prepared, self._options, urls)
        return submit(lambda: self._client.submit(payload), self._client, self._host)

    def _fetch(self, answer: Answer) -> tuple[torch.Tensor, list[str]]:
        """The pictures that may be shown, (B, H, W, 3), and a notice for each that may not."""
        withheld = [
            f"the safety checker withheld picture {number}"
            for number, flag in enumerate(answer.flagged, 1)
            if flag
        ]
        kept = [url for url, flag in zip(answer.urls, answer.flagged, strict=True) if not flag]
        if not kept:
            raise FlaggedError(
                "fal's safety checker withheld every picture.",
                "Change the prompt or the pictures; the edit was billed.",
            )
        self._host.say("downloading")
        return torch.stack([self._picture(url) for url in kept]), withheld

    def _picture(self, url: str) -> torch.Tensor:
        pixels = decode(_inline(url)) if url.startswith("data:") else self._download(url)
        picture = to_tensor(pixels)
        self._returned.append(f"{picture.shape[1]}x{picture.shape[0]}")
        check_shown(picture)
        return restore(picture, self._prepared.plan)

    def _download(self, url: str) -> Pixels:
        """A result picture; one that arrives damaged is fetched again, since it is paid for."""
        for _ in range(DOWNLOAD_TRIES - 1):
            with suppress(ResultError):
                return self._download_once(url)
        return self._download_once(url)

    def _download_once(self, url: str) -> Pixels:
        return decode(attend(partial(self._client.download, url), self._host))

    def _result(
        self, job: Job, answer: Answer, images: torch.Tensor, withheld: list[str]
    ) -> EditResult:
        request = self._prepared.request
        seed = request.seed if answer.seed is None else answer.seed
        receipt = self._prepared.receipt("fal", ENDPOINT, [seed])
        receipt.notices += withheld
        receipt.timings_s = self._watch.seconds
        receipt.details = {
            "request_id": job.request_id,
            "prompt_used": answer.prompt,
            "fal_timings": answer.timings,
            "returned": self._returned,
            "billed_units": "unknown" if answer.units is None else answer.units,
            "cost_usd": cost_of(answer.units),
            "enable_safety_checker": self._options.enable_safety_checker,
            "output_format": self._options.output_format,
            "sync_mode": self._options.sync_mode,
            "upload_quality": self._options.upload_quality,
        }
        return EditResult(images, seed, receipt)


def _cost_line(answer: Answer) -> str:
    cost = cost_of(answer.units)
    return f"cost {cost}" if isinstance(cost, str) else f"cost ${cost:.4f}"


def _inline(uri: str) -> bytes:
    """The bytes of a data URI, which ``sync_mode`` answers with."""
    header, _, body = uri.partition(",")
    try:
        if not header.endswith(";base64"):
            raise ValueError(header)
        return base64.b64decode(body, validate=True)
    except (ValueError, binascii.Error):
        raise ResultError(
            "The picture inside fal's answer is damaged.", "Run the edit again."
        ) from None
