"""The endpoint itself: takes an input, makes pictures, names the outcome."""

import base64
import re
import time
from dataclasses import dataclass
from typing import Any

from PIL import Image

from .outcomes import INFRASTRUCTURE_ERRORS, Outcome
from .pictures import UNREADABLE, black, decode, encode, megapixels
from .schema import completed, violations
from .settings import Settings
from .storage import Storage

POLICY_MARK = "[policy]"
FLAG_MARK = re.compile(r"\[nsfw(?::(\d+))?\]")
ERROR_MARK = re.compile(rf"\[error:({'|'.join(INFRASTRUCTURE_ERRORS)})\]")

POLICY_VIOLATION = {
    "type": "content_policy_violation",
    "loc": ["body", "prompt"],
    "msg": "The content could not be processed because it contained material flagged by a "
    "content checker.",
    "url": "https://docs.fal.ai/errors#content_policy_violation",
}


class ImageLoadError(Exception):
    """fal repeats the whole address, even when it is a data URI of megabytes."""

    def __init__(self, url: str) -> None:
        super().__init__(f"Could not load image from url: {url}")


@dataclass(frozen=True)
class Edit:
    """An input that was found good, ready to run."""

    arguments: dict[str, Any]
    references: list[Image.Image]

    @property
    def steps(self) -> int:
        steps: int = self.arguments["num_inference_steps"]
        return steps


class App:
    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._settings = settings
        self._storage = storage

    def prepare(self, arguments: Any) -> Edit | Outcome:
        if problems := violations(arguments):
            return Outcome.refused(problems)
        prompt: str = arguments["prompt"]
        if POLICY_MARK in prompt:
            return Outcome.refused([POLICY_VIOLATION | {"input": prompt}])
        if mark := ERROR_MARK.search(prompt):
            return Outcome.failed(mark[1], "The runner could not finish the request.")
        try:
            references = [self._load(url) for url in arguments["image_urls"]]
        except ImageLoadError as error:
            return Outcome.refused(str(error))
        filled = completed(arguments, references[0].size, self._settings.rounding)
        return Edit(filled, references)

    def render(self, edit: Edit, file_origin: str) -> Outcome:
        started = time.monotonic()
        try:
            pictures = self._settings.runner(edit.arguments, edit.references)
        except Exception as error:  # noqa: BLE001 - what a runner raises is its job's outcome
            return Outcome.failed("runner_server_error", repr(error))
        flags = _flags(edit.arguments, len(pictures))
        shown = [
            black(picture) if flag else picture
            for picture, flag in zip(pictures, flags, strict=True)
        ]
        document = {
            "images": [self._image(picture, edit.arguments, file_origin) for picture in shown],
            "timings": {"inference": time.monotonic() - started},
            "seed": edit.arguments["seed"],
            "has_nsfw_concepts": flags,
            "prompt": edit.arguments["prompt"],
        }
        return Outcome(200, document, units=sum(map(megapixels, shown)))

    def _load(self, url: str) -> Image.Image:
        try:
            return decode(self._read(url))
        except UNREADABLE as error:
            raise ImageLoadError(url) from error

    def _read(self, url: str) -> bytes:
        if url.startswith("data:"):
            return base64.b64decode(url.partition(";base64,")[2], validate=True)
        stored = self._storage.find(url)
        if stored is None:
            raise FileNotFoundError(url)
        return stored.data

    def _image(
        self, picture: Image.Image, arguments: dict[str, Any], file_origin: str
    ) -> dict[str, Any]:
        content_type = f"image/{arguments['output_format']}"
        data = encode(picture, arguments["output_format"])
        if arguments["sync_mode"]:
            name = None
            url = f"data:{content_type};base64,{base64.b64encode(data).decode()}"
        else:
            path = self._storage.put(data, content_type)
            name = path.rpartition("/")[2]
            url = file_origin + path
        return {
            "url": url,
            "width": picture.width,
            "height": picture.height,
            "content_type": content_type,
            "file_name": name,
            "file_size": len(data),
        }


def _flags(arguments: dict[str, Any], count: int) -> list[bool]:
    """Which pictures the safety checker finds unfit; pictures are counted from 1."""
    if not arguments["enable_safety_checker"]:
        return [False] * count
    marked = set(FLAG_MARK.findall(arguments["prompt"]))
    return ["" in marked or str(number) in marked for number in range(1, count + 1)]
