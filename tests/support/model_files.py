"""The files that the examples name, in ComfyUI's folders: empty, or of a tiny model."""

from __future__ import annotations

import tempfile
from pathlib import Path

from doubles.tiny_files import (
    linear_layers,
    write_lora,
    write_text_encoder,
    write_transformer,
    write_vae,
)
from doubles.tiny_model import build_tiny_model
from support.comfyui import comfyui_source
from support.examples import FILES, LIGHTNING, TEXT_ENCODER, TRANSFORMER, VAE, Model

_ALL = (*FILES, LIGHTNING)


def write_model_files(base: Path) -> None:
    """Put them all below ``base``/models, where they are not there yet."""
    if all(_file(base, model).exists() for model in _ALL):
        return
    list_model_files(base)
    vocabulary = comfyui_source() / "comfy" / "text_encoders" / "qwen25_tokenizer"
    with tempfile.TemporaryDirectory() as folder:
        tiny = build_tiny_model(Path(folder) / "model", vocabulary=vocabulary)
        write_transformer(tiny, _file(base, TRANSFORMER))
        write_text_encoder(tiny, _file(base, TEXT_ENCODER), quantisation="scaled_fp8")
        write_vae(tiny, _file(base, VAE))
        write_lora(_file(base, LIGHTNING), linear_layers(tiny), "bare down up alpha")


def list_model_files(base: Path) -> None:
    """Put empty ones there: ComfyUI lists them, and nobody loads them."""
    for model in _ALL:
        file = _file(base, model)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def _file(base: Path, model: Model) -> Path:
    return base / "models" / model.directory / model.name
