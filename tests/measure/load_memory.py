"""How much main memory a model takes, against the size of its file.

A single file of the real transformer's width is made without writing it out (a sparse file of
zeros), loaded with ComfyUI's own layers on the CPU, and every weight is read once, as computing
does. Counted is resident memory, file pages included, above what the process held before.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from doubles.tiny_files import write_lora, write_text_encoder, write_transformer, write_vae
from doubles.tiny_model import build_tiny_model
from support.comfyui import comfyui_source
from support.inside import InsideHost, bridge

if TYPE_CHECKING:
    from firered_edit.pipeline.local.model import FireRedModel

BLOCK_GIB = 0.633
"""One block of the real transformer in bf16."""

CONFIG = {"attention_head_dim": 128, "num_attention_heads": 24, "joint_attention_dim": 3584}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=4.0, help="size of the file in GiB")
    blocks = max(1, round(parser.parse_args().gigabytes / BLOCK_GIB))
    with tempfile.TemporaryDirectory(prefix="firered-measure-") as folder:
        sys.stdout.write(json.dumps(measure(Path(folder), blocks), indent=2) + "\n")
    return 0


def measure(folder: Path, blocks: int) -> dict[str, float]:
    """GiB of the file, and resident GiB by stage as a share of it."""
    from firered_edit.pipeline.local.loras import use_lora
    from firered_edit.pipeline.local.weights import ModelFiles, load_files

    vocabulary = comfyui_source() / "comfy" / "text_encoders" / "qwen25_tokenizer"
    tiny = build_tiny_model(folder / "tiny", vocabulary=vocabulary)
    encoder = write_text_encoder(tiny, folder / "encoder.safetensors")
    vae = write_vae(tiny, folder / "vae.safetensors")
    host = InsideHost()
    # What is imported and allocated once for any model is not this model's.
    small = write_transformer(tiny, folder / "small.safetensors")
    _compute(load_files(ModelFiles(small, encoder, vae), "auto", host), host)
    big = _sparse_transformer(folder / "big.safetensors", blocks)
    before, size = _resident("VmRSS"), big.stat().st_size
    model = load_files(ModelFiles(big, encoder, vae), "auto", host)
    _compute(model, host)
    found = {"loaded and read": _resident("VmRSS"), "peak on the way": _resident("VmHWM")}
    layer = {"transformer_blocks.0.attn.to_q": (3072, 3072)}
    lora = write_lora(folder / "lora.safetensors", layer, "bare ab")
    _compute(use_lora(model, lora, 1.0, False, host), host)
    found["after a LoRA on one layer"] = _resident("VmRSS")
    _compute(model, host)
    found["without it again"] = _resident("VmRSS")
    bridge().memory.comfy.model_management.unload_all_models()
    found["after the button that frees memory"] = _resident("VmRSS")
    shares = {stage: round((held - before) / size, 3) for stage, held in found.items()}
    return {"file_gib": round(size / 2**30, 3), **shares}


def _compute(model: FireRedModel, host: InsideHost) -> None:
    """Bring the transformer in and read every weight, as a pass and a table do."""
    host.load([model.transformer], 0)
    for handle in (model.transformer, model.modulation):
        for weight in handle.module.parameters():
            weight.sum()


def _sparse_transformer(file: Path, blocks: int) -> Path:
    """A file of zeros in the real width; its blocks on disk are never written."""
    header: dict[str, Any] = {}
    offset = 0
    for name, shape in _shapes(blocks).items():
        size = 2 * shape.numel()
        header[name] = {
            "dtype": "BF16",
            "shape": list(shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as opened:
        opened.write(struct.pack("<Q", len(text)) + text)
        opened.truncate(8 + len(text) + offset)
    return file


def _shapes(blocks: int) -> dict[str, Any]:
    from accelerate import init_empty_weights
    from diffusers import QwenImageTransformer2DModel

    with init_empty_weights(include_buffers=False):
        module = QwenImageTransformer2DModel(num_layers=blocks, **CONFIG)
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def _resident(kind: str) -> int:
    """Bytes of resident memory now (VmRSS) or at most so far (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"this system does not tell {kind}")


if __name__ == "__main__":
    raise SystemExit(main())
