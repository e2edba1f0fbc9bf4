"""From files to modules: built without memory, checked against the files, then given weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from ..host import LayerKit, LocalHost, Storage
from .cancelling import check_cancelled
from .checkpoints import SCALES, Checkpoint
from .families import Part

# The model was trained in bf16; its activations go beyond what fp16 can hold, and turn black.
_DTYPES = {"F32": torch.float32, "F16": torch.bfloat16, "BF16": torch.bfloat16}


def compute_dtype(checkpoint: Checkpoint) -> torch.dtype:
    """The dtype the mathematics runs in: the one most bytes of weights are stored in.

    bf16 where they are stored in 8 bits or fewer: nothing computes in those throughout.
    """
    sizes = dict.fromkeys(_DTYPES, 0)
    for key, entry in checkpoint.entries.items():
        if entry.dtype in sizes and key.removesuffix(".weight") not in checkpoint.quantised:
            sizes[entry.dtype] += entry.size
    most = max(sizes, key=lambda name: sizes[name])
    eight_bits = checkpoint.size - sum(sizes.values())
    return torch.bfloat16 if eight_bits > sizes[most] else _DTYPES[most]


def construct(part: Part, make: Callable[[Mapping[str, Any]], nn.Module]) -> nn.Module:
    """The module of ``part`` without weights, checked against what its files hold.

    ``make`` constructs it from its configuration. Raises ``BrokenModelError`` that names the file
    and the first offending tensors; no weight is read.
    """
    with _at_most(2 * len(part.names) + _SPARE):
        module = make_without_memory(make, part.config)
    _check_tensors(part, module)
    return module.eval().requires_grad_(False)


def fill(
    module: nn.Module, part: Part, dtype: torch.dtype, storage: Storage, host: LocalHost
) -> None:
    """Give ``module`` the weights of ``part``; it will compute in ``dtype``."""
    kit = host.layers
    tensors = _read(part, kit)
    kit.fill(module, tensors, dtype, storage, lambda: check_cancelled(host))
    module.requires_grad_(False)


_SPARE = 100
"""Parameters: what a class makes and its files need not hold."""


@contextmanager
def _at_most(parameters: int) -> Iterator[None]:
    """Raise ``ValueError`` where more parameters are made: a configuration may ask for millions."""
    made = 0

    def count(_module: nn.Module, _name: str, _parameter: nn.Parameter) -> None:
        nonlocal made
        made += 1
        if made > parameters:
            raise ValueError("its configuration describes more layers than its files hold")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def make_without_memory(
    make: Callable[[Mapping[str, Any]], nn.Module], config: Mapping[str, Any]
) -> nn.Module:
    """Construct a module whose parameters have shapes only; buffers are computed for real."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        return make(config)


def _check_tensors(part: Part, module: nn.Module) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = part.checkpoint.renamed(part.names)
    _check_scales(part, found)
    if missing := sorted(wanted.keys() - found.entries.keys()):
        raise part.checkpoint.broken(f"lacks {_count(missing)}, first {_first(missing)}")
    if unknown := sorted(found.entries.keys() - wanted.keys()):
        raise part.checkpoint.broken(f"holds {_count(unknown)} of another model, {_first(unknown)}")
    for name, shape in wanted.items():
        # Packed formats store other shapes than they stand for.
        packed = name.removesuffix(".weight") in found.quantised
        if not packed and found.entries[name].shape != shape:
            raise part.checkpoint.broken(f"has {name} as {found.entries[name].shape}, not {shape}")


def _check_scales(part: Part, found: Checkpoint) -> None:
    """Raise where a scale belongs to a weight that nothing marks as quantised."""
    layers = _layers(part.names)
    for key in part.checkpoint.entries:
        layer, _, kind = key.rpartition(".")
        if kind in SCALES and layer in layers and layers[layer] not in found.quantised:
            raise part.checkpoint.broken(f"does not say what {key} is for, as ComfyUI's files do")


def _count(names: list[str]) -> str:
    return f"{len(names)} tensor{'s' if len(names) > 1 else ''}"


def _first(names: list[str]) -> str:
    return ", ".join(names[:2])


def _read(part: Part, kit: LayerKit) -> dict[str, Tensor]:
    """The weights of ``part`` and what their quantisation needs, under the module's names."""
    names = dict(part.names)
    layers = _layers(names)
    tensors: dict[str, Tensor] = {}
    for file in part.checkpoint.files:
        for key, tensor in kit.read(file).items():
            layer, _, kind = key.rpartition(".")
            if key in names:
                tensors[names[key]] = tensor
            elif layer in layers:
                tensors[f"{layers[layer]}.{kind}"] = tensor
    return tensors


def _layers(names: Mapping[str, str]) -> dict[str, str]:
    """Layers of the files to layers of the module.

    A header names quantised layers as the module does, even where tensors carry a prefix.
    """
    pairs = [(old, new) for old, new in names.items() if new.endswith(".weight")]
    stems = {old.removesuffix(".weight"): new.removesuffix(".weight") for old, new in pairs}
    return {new: new for new in stems.values()} | stems
