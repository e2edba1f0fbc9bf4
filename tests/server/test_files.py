"""ComfyUI's single files and a LoRA, chosen by name in a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.comfyui import ComfyUI, RunFailed
from support.events import listening
from support.examples import TEXT_ENCODER, TRANSFORMER, VAE
from support.model_files import write_model_files
from support.workflows import Workflow, receipt, saved

FILES = {
    "diffusion_model": TRANSFORMER.name,
    "text_encoder": TEXT_ENCODER.name,
    "vae": VAE.name,
}
LIGHTNING = "FireRed-Image-Edit-1.0-Lightning-8steps-v1.0"


@pytest.fixture
def from_files(local: Workflow, base: Path) -> Workflow:
    """The shipped local workflow with its model from single files, tiny."""
    write_model_files(base)
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
