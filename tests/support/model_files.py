"""The files that the examples name, in ComfyUI's folders, of a tiny model."""

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


def write_model_files(base: Path) -> None:
    """Put them all below ``base``/models, where they are not there yet."""
    if all(_file(base, model).exists() for model in (*FILES, LIGHTNING)):
        return
    for model in (*FILES, LIGHTNING):
        _file(base, model).parent.mkdir(parents=True, exist_ok=True)
    vocabulary = comfyui_source() / "comfy" / "text_encoders" / "qwen25_tokenizer"
    with tempfile.TemporaryDirectory() as folder:
        tiny = build_tiny_model(Path(folder) / "model", vocabulary=vocabulary)
        write_transformer(tiny, _file(base, TRANSFORMER))
        write_text_encoder(tiny, _file(base, TEXT_ENCODER), quantisation="scaled_fp8")
        write_vae(tiny, _file(base, VAE))
        write_lora(_file(base, LIGHTNING), linear_layers(tiny), "bare down up alpha")


def _file(base: Path, model: Model) -> Path:
    return base / "models" / model.directory / model.name
