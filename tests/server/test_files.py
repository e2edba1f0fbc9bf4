"""ComfyUI's single files and a LoRA, chosen by name in a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from doubles.tiny_files import (
    linear_layers,
    write_lora,
    write_text_encoder,
    write_transformer,
    write_vae,
)
from doubles.tiny_model import build_tiny_model
from support.comfyui import ComfyUI, RunFailed, comfyui_source
from support.events import listening
from support.workflows import Workflow, receipt, saved

FILES = {
    "diffusion_model": "FireRed-Image-Edit-1.1-transformer.safetensors",
    "text_encoder": "qwen_2.5_vl_7b_fp8_scaled.safetensors",
    "vae": "qwen_image_vae.safetensors",
}
LIGHTNING = "FireRed-Image-Edit-1.0-Lightning-8steps-v1.0"


@pytest.fixture(scope="module")
def models(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ComfyUI's model folders with the files of its FireRed template, tiny."""
    vocabulary = comfyui_source() / "comfy" / "text_encoders" / "qwen25_tokenizer"
    tiny = build_tiny_model(tmp_path_factory.mktemp("tiny") / "model", vocabulary=vocabulary)
    folder = base / "models"
    for kind in ("diffusion_models", "text_encoders", "vae", "loras"):
        (folder / kind).mkdir(exist_ok=True)
    write_transformer(tiny, folder / "diffusion_models" / FILES["diffusion_model"])
    write_text_encoder(
        tiny, folder / "text_encoders" / FILES["text_encoder"], quantisation="scaled_fp8"
    )
    write_vae(tiny, folder / "vae" / FILES["vae"])
    layers = linear_layers(tiny)
    write_lora(folder / "loras" / f"{LIGHTNING}.safetensors", layers, "bare down up alpha")
    return folder


@pytest.fixture
def from_files(local: Workflow, models: Path) -> Workflow:
    """The shipped local workflow with its model from single files."""
    chosen = {f"source.{kind}": name for kind, name in FILES.items()}
    local.set("FireRedLoadModel", source="files", **{"source.folder": None}, **chosen)
    return local


def test_the_files_of_comfyuis_own_template_edit_a_picture(
    comfyui: ComfyUI, from_files: Workflow
) -> None:
    run = comfyui.run(from_files)
    assert saved(comfyui, from_files, run).size == (120, 90)
    found = receipt(from_files, run)
    assert found["model"] == "FireRed-Image-Edit-1.1-transformer"
    assert found["details"]["precision"] == "bfloat16; text encoder fp8"


def test_a_lightning_lora_sets_steps_and_guidance_and_says_so(
    comfyui: ComfyUI, from_files: Workflow
) -> None:
    own = {"lora": f"{LIGHTNING}.safetensors", "strength": 1.0, "use_its_schedule": True}
    lora = from_files.add("FireRedLoadLora", model=[from_files.node("FireRedLoadModel"), 0], **own)
    from_files.set("FireRedEdit", model=[lora, 0])
    with listening(comfyui) as events:
        found = receipt(from_files, comfyui.run(from_files))
    assert (found["num_inference_steps"], found["guidance_scale"]) == (8, 1.0)
    assert found["details"]["loras"] == [f"{LIGHTNING} at 1"]
    assert f"{LIGHTNING} sets 8 steps and guidance 1" in events.last_text
    from_files.set("FireRedLoadLora", use_its_schedule=False)
    assert receipt(from_files, comfyui.run(from_files))["num_inference_steps"] == 2


def test_a_file_of_another_kind_is_named(comfyui: ComfyUI, from_files: Workflow) -> None:
    models = comfyui.base / "models"
    wrong = models / "text_encoders" / "wrong.safetensors"
    wrong.write_bytes((models / "vae" / FILES["vae"]).read_bytes())
    from_files.set("FireRedLoadModel", **{"source.text_encoder": wrong.name})
    with pytest.raises(RunFailed, match="wrong.safetensors is not a text encoder"):
        comfyui.run(from_files)
