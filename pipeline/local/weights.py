"""From files on disk to the modules of the model, checked before anything is loaded."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from ..errors import BrokenModelError, MissingModelError, MissingPackageError, NotYetError
from ..host import Handle, LocalHost, Reporter
from .cancelling import check_cancelled
from .encoding import TEMPLATE_HEAD, TEMPLATE_HEAD_TOKENS

if TYPE_CHECKING:
    from diffusers import FlowMatchEulerDiscreteScheduler
    from transformers import Qwen2VLProcessor

Precision = Literal["auto", "bf16", "fp8", "int8"]

PIPELINE_CLASS = "QwenImageEditPlusPipeline"
PACKAGES = {
    "diffusers": "diffusers>=0.40",
    "transformers": "transformers>=5.0",
    "accelerate": "accelerate>=1.1",
    "torchvision": "torchvision",
}
"""Modules the local engine imports, and what pip calls them."""

_WEIGHT_PARTS = ("text_encoder", "transformer", "vae")
_OTHER_PARTS = {
    "processor": "preprocessor_config.json",
    "scheduler": "scheduler_config.json",
}


@dataclass(frozen=True)
class FireRedModel:
    """A loaded model: three modules under the host's memory management, and what goes with them.

    ``name`` is shown in receipts and holds no path.
    """

    name: str
    transformer: Handle
    text_encoder: Handle
    vae: Handle
    scheduler: FlowMatchEulerDiscreteScheduler
    processor: Qwen2VLProcessor
    precision: str


def check_packages() -> None:
    """Raise ``MissingPackageError`` naming everything to install; imports nothing."""
    missing = [pip for name, pip in PACKAGES.items() if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"The local engine needs {', '.join(missing)}.",
            f"Run: pip install {' '.join(repr(name) for name in missing)}, then restart ComfyUI. "
            "FireRed Edit (fal) works without.",
        )


def load_folder(folder: Path, precision: Precision, host: LocalHost) -> FireRedModel:
    """Load a diffusers folder of FireRed-Image-Edit.

    Raises a ``SetupError`` that names the file before any weight is read, if the folder is not
    complete, not safetensors, or of another model. Cancel is honoured between the parts.
    """
    check_packages()
    check_folder(folder)
    dtype = _dtype(folder, precision)
    # Parameters made under inference mode could never be patched or moved in place again.
    with torch.inference_mode(False):
        modules = {part: _load_module(folder, part, dtype, host) for part in _WEIGHT_PARTS}
        host.say("loading processor")
        scheduler, processor = _load_scheduler(folder), _load_processor(folder)
    stored = str(dtype).removeprefix("torch.")
    host.say(f"{folder.name}, {stored}")
    return FireRedModel(
        name=folder.name,
        scheduler=scheduler,
        processor=processor,
        precision=stored,
        **{part: host.manage(module) for part, module in modules.items()},
    )


def check_folder(folder: Path) -> None:
    """Read names and headers only; raise ``MissingModelError`` or ``BrokenModelError``."""
    if not folder.is_dir():
        raise missing_folder(folder.name)
    found = _read_json(folder / "model_index.json").get("_class_name")
    if found != PIPELINE_CLASS:
        raise BrokenModelError(
            f"{folder.name} is a {found}, not a {PIPELINE_CLASS}.",
            "Choose a FireRed-Image-Edit folder.",
        )
    for part, name in _OTHER_PARTS.items():
        _read_json(folder / part / name)
    for part in _WEIGHT_PARTS:
        _read_json(folder / part / "config.json")
        for file in _weight_files(folder / part):
            _check_header(file)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _missing(file) from None
    except (OSError, ValueError) as error:
        raise _broken(file, "is not readable JSON") from error
    if not isinstance(content, dict):
        raise _broken(file, "is not a JSON object")
    return content


def _weight_files(part: Path) -> Iterator[Path]:
    """Every safetensors file of a part, from its index where it is sharded."""
    indexes = sorted(part.glob("*.safetensors.index.json"))
    if indexes:
        names = _shard_names(indexes[0])
    else:
        names = {file.name for file in part.glob("*.safetensors")}
    if not names:
        raise _missing(part / "*.safetensors")
    yield from (part / name for name in sorted(names))


def _shard_names(index: Path) -> set[str]:
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(map(_is_name, weight_map.values())):
        raise _broken(index, "does not name its files")
    return set(weight_map.values())


def _is_name(value: object) -> bool:
    """Whether ``value`` names a file beside the index, and nothing that leads elsewhere."""
    return isinstance(value, str) and Path(value).name == value


def _check_header(file: Path) -> None:
    """Open ``file`` without reading weights; a truncated one is noticed by its length."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt"):
            pass
    except FileNotFoundError:
        raise _missing(file) from None
    except (SafetensorError, OSError) as error:
        raise _broken(file, "is truncated or not a safetensors file") from error


def _dtype(folder: Path, precision: Precision) -> torch.dtype:
    """``auto`` keeps what the transformer was stored in."""
    from safetensors import safe_open

    if precision == "bf16":
        return torch.bfloat16
    if precision != "auto":
        raise NotYetError(
            f"precision {precision} is not available yet.", "Choose auto or bf16 for now."
        )
    file = next(_weight_files(folder / "transformer"))
    with safe_open(file, framework="pt") as opened:
        stored: torch.dtype = opened.get_tensor(next(iter(opened.keys()))).dtype
    if stored not in (torch.bfloat16, torch.float16, torch.float32):
        raise NotYetError(
            f"This model is stored in {stored}, which cannot be loaded yet.",
            "Use the bf16 files for now.",
        )
    return stored


def _load_module(folder: Path, part: str, dtype: torch.dtype, host: Reporter) -> nn.Module:
    check_cancelled(host)
    host.say(f"loading {part.replace('_', ' ')}")
    loader, extra = _loader(part)
    with _naming(folder / part):
        loaded: tuple[nn.Module, dict[str, Any]] = loader(
            folder / part, dtype=dtype, local_files_only=True, output_loading_info=True, **extra
        )
    module, found = loaded
    if missing := sorted(found["missing_keys"]):
        # Both libraries only warn, and leave random values in their place.
        raise _broken(folder / part, f"lacks {len(missing)} tensors, first {missing[0]}")
    return module.eval().requires_grad_(False)


def _loader(part: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function that reads a part's folder, and what it needs to be told."""
    if part == "text_encoder":
        return _prompt_encoder_class().from_pretrained, {"key_mapping": _ENCODER_KEYS}
    from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel

    of_part = QwenImageTransformer2DModel if part == "transformer" else AutoencoderKLQwenImage
    return of_part.from_pretrained, {}


# The encoder is stored under either of two naming schemes, by the age of the transformers library
# that saved it.
_ENCODER_KEYS = {
    r"^model\.(?!language_model\.|visual\.)": "language_model.",
    r"^model\.(language_model|visual)\.": r"\1.",
}


def _prompt_encoder_class() -> Any:
    from transformers import Qwen2_5_VLModel

    class PromptEncoder(Qwen2_5_VLModel):
        """Qwen2.5-VL without its language head: an edit needs hidden states, not words."""

        _keys_to_ignore_on_load_unexpected = [r"^lm_head\."]

    return PromptEncoder


def _load_scheduler(folder: Path) -> FlowMatchEulerDiscreteScheduler:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler.from_pretrained(
        folder / "scheduler", local_files_only=True
    )


def _load_processor(folder: Path) -> Qwen2VLProcessor:
    from transformers import Qwen2VLProcessor

    with _naming(folder / "processor"):
        processor = Qwen2VLProcessor.from_pretrained(folder / "processor", local_files_only=True)
        head = len(processor.tokenizer(TEMPLATE_HEAD)["input_ids"])
    if head != TEMPLATE_HEAD_TOKENS:
        # The embeddings of the head are dropped by count; another count gives nonsense in silence.
        raise _broken(folder / "processor", "has another vocabulary than Qwen2.5-VL")
    return processor


@contextmanager
def _naming(part: Path) -> Iterator[None]:
    """Turn what the libraries raise over unfit files into one error that names the part."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise  # ComfyUI frees memory when it sees this very type.
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise _broken(part, f"cannot be loaded: {error}") from error


def missing_folder(name: str) -> MissingModelError:
    """The error for a model folder that is not where it was asked for."""
    return MissingModelError(
        f"There is no model folder {name!r}.",
        "Put the FireRed-Image-Edit-1.1 folder into ComfyUI's models/diffusers.",
    )


def _missing(file: Path) -> MissingModelError:
    return MissingModelError(
        f"The model folder lacks {file.parent.name}/{file.name}.",
        "Download the folder again; all its files are needed.",
    )


def _broken(file: Path, how: str) -> BrokenModelError:
    return BrokenModelError(f"{file.parent.name}/{file.name} {how}.", "Download this file again.")
