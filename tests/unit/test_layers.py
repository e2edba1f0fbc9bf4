"""ComfyUI's layers in models that were not written for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from doubles.tiny_files import write_transformer
from firered_edit.pipeline.local.building import compute_dtype
from firered_edit.pipeline.local.checkpoints import open_checkpoint
from firered_edit.pipeline.local.model import Precision
from firered_edit.pipeline.local.weights import load_folder
from support.inside import InsideHost


@pytest.mark.parametrize("precision", ["auto", "fp8", "int8"])
def test_a_model_can_be_evicted_while_another_node_runs(
    tiny_model: Path, precision: Precision
) -> None:
    """Nodes run in inference mode, where a quantised weight cannot be written into."""
    host = InsideHost()
    model = load_folder(tiny_model, precision, host)
    host.load([model.transformer], 0)
    with torch.inference_mode():
        model.transformer.managed.detach()  # type: ignore[attr-defined]
        host.load([model.transformer], 0)
    assert {weight.device.type for weight in model.transformer.module.parameters()} == {"cpu"}


def test_half_precision_files_compute_in_bf16(tiny_model: Path, tmp_path: Path) -> None:
    """In fp16 the model's activations overflow, and the picture turns black."""
    file = write_transformer(tiny_model, tmp_path / "half.safetensors", dtype=torch.float16)
    assert compute_dtype(open_checkpoint(file.name, [file])) == torch.bfloat16
