"""The input of the endpoint: which fields it has, and what it says about wrong ones."""

import secrets
from collections.abc import Callable
from typing import Any, NamedTuple

from .pictures import Size, rounded

PRESETS: dict[str, Size] = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}
DEFAULT_SIDE = 512
MAX_SIDE = 14142

REQUIRED = ("prompt", "image_urls")
DEFAULTS: dict[str, Any] = {
    "image_size": None,
    "num_inference_steps": 30,
    "seed": None,
    "guidance_scale": 4,
    "sync_mode": False,
    "num_images": 1,
    "enable_safety_checker": True,
    "output_format": "png",
    "negative_prompt": "",
    "acceleration": "regular",
}


class Problem(NamedTuple):
    type: str
    msg: str
    loc: tuple[str | int, ...] = ()
    """Where below the field; empty for the field itself."""


Check = Callable[[Any], list[Problem]]


def _text(value: Any) -> list[Problem]:
    if isinstance(value, str):
        return []
    return [Problem("string_type", "Input should be a valid string")]


def _flag(value: Any) -> list[Problem]:
    if isinstance(value, bool):
        return []
    return [Problem("bool_type", "Input should be a valid boolean")]


def _whole(value: Any) -> list[Problem]:
    if isinstance(value, int) and not isinstance(value, bool):
        return []
    return [Problem("int_type", "Input should be a valid integer")]


def _number(value: Any) -> list[Problem]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return []
    return [Problem("float_type", "Input should be a valid number")]


def _within(kind: Check, low: int, high: int) -> Check:
    def check(value: Any) -> list[Problem]:
        if problems := kind(value):
            return problems
        if value < low:
            message = f"Input should be greater than or equal to {low}"
            return [Problem("greater_than_equal", message)]
        if value > high:
            return [Problem("less_than_equal", f"Input should be less than or equal to {high}")]
        return []

    return check


def _one_of(*choices: str) -> Check:
    listed = " or ".join([", ".join(map(repr, choices[:-1])), repr(choices[-1])])

    def check(value: Any) -> list[Problem]:
        if isinstance(value, str) and value in choices:
            return []
        return [Problem("literal_error", f"Input should be {listed}")]

    return check


def _or_null(kind: Check) -> Check:
    return lambda value: [] if value is None else kind(value)


def _urls(value: Any) -> list[Problem]:
    if not isinstance(value, list):
        return [Problem("list_type", "Input should be a valid list")]
    if not value:
        message = "List should have at least 1 item after validation, not 0"
        return [Problem("too_short", message)]
    return [
        problem._replace(loc=(index, *problem.loc))
        for index, url in enumerate(value)
        for problem in _text(url)
    ]


_side = _within(_whole, 1, MAX_SIDE)
_preset = _one_of(*PRESETS)


def _image_size(value: Any) -> list[Problem]:
    if not isinstance(value, dict):
        return _preset(value)
    return [
        problem._replace(loc=(side, *problem.loc))
        for side in ("width", "height")
        if side in value
        for problem in _side(value[side])
    ]


FIELDS: dict[str, Check] = {
    "prompt": _text,
    "image_urls": _urls,
    "image_size": _or_null(_image_size),
    "num_inference_steps": _within(_whole, 2, 50),
    "seed": _or_null(_whole),
    "guidance_scale": _within(_number, 1, 10),
    "sync_mode": _flag,
    "num_images": _within(_whole, 1, 4),
    "enable_safety_checker": _flag,
    "output_format": _one_of("jpeg", "png"),
    "negative_prompt": _text,
    "acceleration": _one_of("none", "regular", "high"),
}


def violations(arguments: Any) -> list[dict[str, Any]]:
    """What the 422 lists; empty for an input that the endpoint takes."""
    if not isinstance(arguments, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        return [_entry(Problem("model_attributes_type", message), (), arguments)]
    missing = [
        _entry(Problem("missing", "Field required"), (name,), arguments)
        for name in REQUIRED
        if name not in arguments
    ]
    wrong = [
        _entry(problem, (name, *problem.loc), arguments[name])
        for name, check in FIELDS.items()
        if name in arguments
        for problem in check(arguments[name])
    ]
    return missing + wrong


def _entry(problem: Problem, loc: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    return {
        "type": problem.type,
        "loc": ["body", *loc],
        "msg": problem.msg,
        "input": value,
        "url": f"https://errors.pydantic.dev/2.10/v/{problem.type}",
    }


def unknown_fields(arguments: Any) -> list[str]:
    return sorted(set(arguments) - set(FIELDS)) if isinstance(arguments, dict) else []


def completed(arguments: dict[str, Any], first: Size, rounding: str) -> dict[str, Any]:
    """The input as the app works with it: no field is missing, seed and size are settled."""
    known = {name: value for name, value in arguments.items() if name in FIELDS}
    filled = DEFAULTS | known
    if filled["seed"] is None:
        filled["seed"] = secrets.randbelow(2**32)
    width, height = rounded(_asked(filled["image_size"], first), rounding)
    filled["image_size"] = {"width": width, "height": height}
    return filled


def _asked(image_size: Any, first: Size) -> Size:
    if image_size is None:
        return first
    if isinstance(image_size, str):
        return PRESETS[image_size]
    return image_size.get("width", DEFAULT_SIDE), image_size.get("height", DEFAULT_SIDE)
