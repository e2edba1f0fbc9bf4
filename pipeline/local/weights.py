"""From files on disk to a loaded model, checked before anything is read."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..checks import check_choice
from ..errors import (
    BrokenModelError,
    FireRedError,
    MissingModelError,
    MissingPackageError,
    SetupError,
)
from ..geometry import CELL, MEGAPIXEL
from ..host import LocalHost, Phase, Storage
from ..request import STEPS
from .building import compute_dtype, construct, fill
from .caches import Cache
from .cancelling import check_cancelled
from .checkpoints import Checkpoint, broken, folder_files, named, open_checkpoint, read_json
from .encoding import TEMPLATE_HEAD, TEMPLATE_HEAD_TOKENS
from .families import IMAGE_PROCESSOR, SCHEDULER, Part, encoder_part, transformer_part, vae_part
from .model import PRECISIONS, FireRedModel, Precision
from .modulation import take_out
from .precision import choose_storage, describe_storage, stored_format
from .schedule import prepared_schedule
from .sharing import LoadedModels, contents_of

if TYPE_CHECKING:
    from diffusers import FlowMatchEulerDiscreteScheduler
    from transformers import Qwen2VLProcessor

PIPELINE_CLASS = "QwenImageEditPlusPipeline"
PACKAGES = {
    "diffusers": "diffusers>=0.40",
    "transformers": "transformers>=5.6",
    "accelerate": "accelerate>=1.2",
    "torchvision": "torchvision",
}
"""Modules the local engine imports, and what pip calls them."""


MAX_TRAINING_STEPS = 100_000
"""Of a scheduler; all that are known have a thousand."""

DEVICES = ("cuda", "cpu")
"""What torch calls NVIDIA's and AMD's cards, and the CPU. Others lack parts of the mathematics."""


@dataclass(frozen=True)
class ModelFiles:
    """The single files that ComfyUI's own nodes load."""

    diffusion_model: Path
    text_encoder: Path
    vae: Path


@dataclass(frozen=True)
class _Sources:
    """Everything a model is made of, found and judged, nothing loaded yet."""

    name: str
    folder: Path | None
    transformer: Part
    text_encoder: Part
    vae: Part
    scheduler: Callable[[], FlowMatchEulerDiscreteScheduler]
    processor: Callable[[], Qwen2VLProcessor]


def check_packages() -> None:
    """Raise ``MissingPackageError`` naming everything to install; imports nothing."""
    missing = [pip for name, pip in PACKAGES.items() if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"The local engine needs {', '.join(missing)}.",
            f"Run: pip install {' '.join(repr(name) for name in missing)}, then restart ComfyUI. "
            "FireRed Edit (fal) works without.",
        )


def load_folder(
    folder: Path, precision: Precision, host: LocalHost, loaded: LoadedModels | None = None
) -> FireRedModel:
    """Load a diffusers folder of FireRed-Image-Edit.

    Raises a ``SetupError`` that names the file before any weight is read, if the folder is not
    complete, not safetensors, or of another model. Cancel is honoured between tensors. What is in
    ``loaded`` is not read again.
    """
    check_packages()
    return _load(_folder_sources(folder), precision, host, loaded)


def load_files(
    files: ModelFiles, precision: Precision, host: LocalHost, loaded: LoadedModels | None = None
) -> FireRedModel:
    """Load single files, bf16 or in one of ComfyUI's quantised formats.

    Raises as ``load_folder`` does. The vocabulary is ComfyUI's own.
    """
    check_packages()
    if host.tokenizer_folder is None:
        raise SetupError(
            "Single files hold no vocabulary.", "Load them inside ComfyUI, or load a folder."
        )
    sources = _Sources(
        name=files.diffusion_model.stem,
        folder=None,
        transformer=_file_part(files.diffusion_model, transformer_part),
        text_encoder=_file_part(files.text_encoder, encoder_part),
        vae=_file_part(files.vae, vae_part),
        scheduler=_standard_scheduler,
        processor=partial(_comfy_processor, host.tokenizer_folder),
    )
    return _load(sources, precision, host, loaded)


def _file_part(file: Path, recognise: Callable[[Checkpoint], Part]) -> Part:
    return recognise(open_checkpoint(file.name, [file]))


def _folder_sources(folder: Path) -> _Sources:
    """Read names and headers only; raise ``MissingModelError`` or ``BrokenModelError``."""
    if not folder.is_dir():
        raise missing_folder(folder.name)
    found = read_json(folder / "model_index.json").get("_class_name")
    if found != PIPELINE_CLASS:
        raise BrokenModelError(
            f"{folder.name} is a {found}, not a {PIPELINE_CLASS}.",
            "Choose a FireRed-Image-Edit folder.",
        )
    for other in ("processor/preprocessor_config.json", "scheduler/scheduler_config.json"):
        read_json(folder / other)
    return _Sources(
        name=folder.name,
        folder=folder,
        transformer=_folder_part(folder / "transformer", transformer_part),
        text_encoder=_folder_part(folder / "text_encoder", encoder_part),
        vae=_folder_part(folder / "vae", vae_part),
        scheduler=partial(_folder_scheduler, folder / "scheduler"),
        processor=partial(_folder_processor, folder / "processor"),
    )


def _folder_part(folder: Path, recognise: Callable[..., Part]) -> Part:
    config = read_json(folder / "config.json")
    return recognise(open_checkpoint(folder.name, folder_files(folder)), config)


def check_device(device: torch.device) -> None:
    """Raise ``SetupError`` where the mathematics is not known to run."""
    if device.type not in DEVICES:
        raise SetupError(
            f"ComfyUI computes on {device.type} here; the local engine runs on NVIDIA and AMD "
            "cards, and on the CPU.",
            "Use FireRed Edit (fal), or start ComfyUI with --cpu.",
        )


def _load(
    sources: _Sources, precision: Precision, host: LocalHost, loaded: LoadedModels | None
) -> FireRedModel:
    check_choice("precision", precision, PRECISIONS)
    check_device(host.device)
    stored_dtype = compute_dtype(sources.transformer.checkpoint)
    dtype = torch.bfloat16 if precision == "bf16" else stored_dtype
    storage = choose_storage(precision, sources.transformer, host)
    make = partial(_make, sources, dtype, storage, host)
    key = (_identity(sources), dtype, storage, host.device)
    model = loaded.get(key, make) if loaded else make()
    host.say(f"{sources.name}, {model.precision}")
    return model


def _identity(sources: _Sources) -> Hashable:
    """Everything that is read: the weights, and of a folder what stands beside them."""
    parts = (sources.transformer, sources.text_encoder, sources.vae)
    weights = [file for part in parts for file in part.checkpoint.files]
    beside = sorted(filter(Path.is_file, sources.folder.glob("*/*.json"))) if sources.folder else []
    return contents_of([*weights, *beside])


def _make(sources: _Sources, dtype: torch.dtype, storage: Storage, host: LocalHost) -> FireRedModel:
    scheduler, processor = sources.scheduler(), sources.processor()
    # Parameters made under inference mode could never be patched or moved in place again.
    with torch.inference_mode(False):
        modules = _modules(sources, dtype, storage, host)
    transformer, modulation, text_encoder, vae = map(host.manage, modules)
    multiplied = host.layers.multiplied(transformer.module)
    stored = describe_storage(storage, sources.transformer, dtype, host, multiplied)
    if own := stored_format(sources.text_encoder.checkpoint):
        stored += f"; text encoder {own}"
    cache = Cache()
    host.on_free(cache.clear)
    return FireRedModel(
        name=sources.name,
        transformer=transformer,
        modulation=modulation,
        text_encoder=text_encoder,
        vae=vae,
        scheduler=scheduler,
        processor=processor,
        dtype=dtype,
        precision=stored,
        cache=cache,
    )


def _modules(
    sources: _Sources, dtype: torch.dtype, storage: Storage, host: LocalHost
) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module]:
    """Transformer, modulation, text encoder and VAE; all files are judged before one is read."""
    transformer: Any = _construct(sources.transformer, _make_transformer)
    text_encoder = _construct(sources.text_encoder, _make_encoder)
    vae = _construct(sources.vae, _make_vae)
    _fill("transformer", transformer, sources.transformer, dtype, storage, host)
    # Widening a quantised encoder would cost memory and give nothing back.
    encoder_storage: Storage = "stored" if storage == "full" else storage
    _fill("text encoder", text_encoder, sources.text_encoder, dtype, encoder_storage, host)
    _fill("vae", vae, sources.vae, dtype, "full", host)
    return transformer, take_out(transformer), text_encoder, vae


def _construct(part: Part, make: Callable[[Mapping[str, Any]], nn.Module]) -> nn.Module:
    # Some configurations check themselves, with errors of their own kind.
    with _naming(part.checkpoint.name, _home(part), Exception):
        return construct(part, make)


def _fill(
    what: str,
    module: nn.Module,
    part: Part,
    dtype: torch.dtype,
    storage: Storage,
    host: LocalHost,
) -> None:
    check_cancelled(host)
    host.phase(Phase(f"loading {what}"))
    with _naming(part.checkpoint.name, _home(part)):
        fill(module, part, dtype, storage, host)


def _make_transformer(config: Mapping[str, Any]) -> Any:
    from diffusers import QwenImageTransformer2DModel

    return QwenImageTransformer2DModel.from_config(dict(config))


def _make_vae(config: Mapping[str, Any]) -> Any:
    from diffusers import AutoencoderKLQwenImage

    from .autoencoder import with_still_convolutions

    return with_still_convolutions(AutoencoderKLQwenImage.from_config(dict(config)))


def _make_encoder(config: Mapping[str, Any]) -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

    return Qwen2_5_VLModel(Qwen2_5_VLConfig.from_dict(dict(config)))


def _standard_scheduler() -> FlowMatchEulerDiscreteScheduler:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**SCHEDULER)


def _folder_scheduler(folder: Path) -> FlowMatchEulerDiscreteScheduler:
    from diffusers import FlowMatchEulerDiscreteScheduler

    _check_steps(folder / "scheduler_config.json")
    with _naming(folder.name, folder):
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder, local_files_only=True)
        # A setting of another kind is met only where something is computed with it.
        prepared_schedule(scheduler, STEPS[0], MEGAPIXEL // CELL**2, torch.device("cpu"))
    return scheduler


def _check_steps(file: Path) -> None:
    """Raise where the scheduler would make a list of more noise levels than anybody trains with."""
    steps = read_json(file).get("num_train_timesteps", 1)
    if not isinstance(steps, int) or not 1 <= steps <= MAX_TRAINING_STEPS:
        raise broken(named(file), f"has num_train_timesteps {steps!r:.40}")


def _comfy_processor(tokenizer_folder: Path) -> Qwen2VLProcessor:
    from transformers import (
        Qwen2Tokenizer,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    with _naming(tokenizer_folder.name):
        tokenizer = Qwen2Tokenizer.from_pretrained(tokenizer_folder, local_files_only=True)
    pictures, videos = Qwen2VLImageProcessor(**IMAGE_PROCESSOR), Qwen2VLVideoProcessor()
    return _checked(Qwen2VLProcessor(pictures, tokenizer, videos), tokenizer_folder)


def _folder_processor(folder: Path) -> Qwen2VLProcessor:
    from transformers import Qwen2VLProcessor

    # The vocabulary's reader raises nothing narrower.
    with _naming(folder.name, folder, Exception):
        processor = Qwen2VLProcessor.from_pretrained(folder, local_files_only=True)
    return _checked(processor, folder)


def _checked(processor: Qwen2VLProcessor, folder: Path) -> Qwen2VLProcessor:
    """``processor``, unless its vocabulary is another.

    The embeddings of the prompt's head are dropped by count; another count gives nonsense in
    silence.
    """
    with _naming(folder.name):
        head = len(processor.tokenizer(TEMPLATE_HEAD)["input_ids"])
    if head != TEMPLATE_HEAD_TOKENS:
        raise broken(named(folder), "has another vocabulary than Qwen2.5-VL")
    return processor


_UNFIT = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
)


@contextmanager
def _naming(name: str, folder: Path | None = None, *others: type[Exception]) -> Iterator[None]:
    """Turn what the libraries raise over unfit files into one error that names the part.

    Where ``folder`` lies is nobody's business, and the libraries like to tell.
    """
    unfit: tuple[type[Exception], ...] = (*_UNFIT, *others)
    try:
        yield
    except (torch.OutOfMemoryError, FireRedError):
        raise  # ComfyUI frees memory when it sees the first of them.
    except unfit as error:
        told = str(error).replace(f"{folder}{os.sep}", "") if folder else str(error)
        raise broken(name, f"cannot be loaded: {told}") from error


def _home(part: Part) -> Path:
    """The folder that the files of ``part`` lie in."""
    return part.checkpoint.files[0].parent


def missing_folder(name: str) -> MissingModelError:
    """The error for a model folder that is not where it was asked for."""
    return MissingModelError(
        f"There is no model folder {name!r}.",
        "Put the FireRed-Image-Edit-1.1 folder into ComfyUI's models/diffusers.",
    )
