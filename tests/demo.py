"""The main job: both nodes edit a real photograph in a real ComfyUI; pictures are saved.

Without ``FAL_KEY`` the fal node talks to a loopback server, without ``--model`` the local node runs
a tiny model of random weights. Both are said plainly.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import skimage
import torch
from PIL import Image
from transformers.utils.logging import disable_progress_bar

from doubles.tiny_model import build_tiny_model
from support.comfyui import ComfyUI, install_pack, running_comfyui
from support.pack import ROOT
from support.workflows import Workflow, shipped

OUTPUT = ROOT / "demo_output"
PHOTO = "chelsea.png"
"""A photograph of a cat, 451x300, dedicated to the public domain (CC0) by Stefan van der Walt."""

TINY_MODEL = "tiny-random-weights"
TINY_STEPS, TINY_MEGAPIXELS = 4, 0.1

RUN_TIMEOUT_S = 3600.0
"""For a real model, loaded from a slow disk onto a small card."""


def main() -> int:
    options = _options()
    disable_progress_bar()
    say = sys.stdout.write
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="firered-demo-")))
        say("Preparing ComfyUI with the pack in custom_nodes ...\n")
        install_pack(base)
        model, paths = _provide_model(base, options.model)
        environ = stack.enter_context(_fal())
        device = () if torch.cuda.is_available() else ("--cpu",)
        server = stack.enter_context(
            running_comfyui(base, environ=environ, options=(*device, *paths))
        )
        say(f"ComfyUI runs at {server.url}\n\n")
        OUTPUT.mkdir(exist_ok=True)
        photo = _photo()
        say(f"photo: {photo} ({_size(photo)}), a real photograph\n")
        for job in (_local_job(model, options), _fal_job(options, bool(environ))):
            say(_carry_out(server, photo, *job))
        if options.serve:
            _serve(server)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a FireRed-Image-Edit folder, run on the GPU")
    parser.add_argument("--steps", type=int, help="steps of both nodes")
    parser.add_argument("--serve", action="store_true", help="leave ComfyUI running until Ctrl+C")
    return parser.parse_args()


def _provide_model(base: Path, real: Path | None) -> tuple[str, tuple[str, ...]]:
    """The name ComfyUI has for the model, and the options that tell it where to look."""
    if real is None:
        build_tiny_model(base / "models" / "diffusers" / TINY_MODEL)
        return TINY_MODEL, ()
    folder = real.resolve()
    paths = base / "extra_model_paths.yaml"
    # A JSON text is a YAML one too, and needs no thought about quoting.
    paths.write_text(json.dumps({"demo": {"base_path": str(folder.parent), "diffusers": "."}}))
    return folder.name, ("--extra-model-paths-config", str(paths))


@contextmanager
def _fal() -> Iterator[Mapping[str, str]]:
    """The environment that leads the fal node to a loopback server; empty with a real key."""
    if os.environ.get("FAL_KEY"):
        yield {}
        return
    command = [sys.executable, "-m", "doubles.fal_server", "--run-seconds", "0.5"]
    process = subprocess.Popen(
        [*command, "--runner", "doubles.tiny_runner:edit"],
        cwd=ROOT / "tests",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        assert process.stdout is not None
        addresses = json.loads(process.stdout.readline())
        url, key = addresses["url"], addresses["key"]
        yield {"FAL_QUEUE_RUN_HOST": url, "FAL_REST_HOST": url, "FAL_KEY": key}
        # The server ends when its input does, which leaving the process context closes.


def _photo() -> Path:
    source = Path(skimage.__file__).parent / "data" / PHOTO
    return Path(shutil.copy(source, OUTPUT / f"photo_{PHOTO}"))


def _local_job(model: str, options: argparse.Namespace) -> tuple[str, Workflow, str]:
    workflow = shipped("firered_edit_local")
    workflow.use_folder(model)
    if options.model is not None:
        if options.steps:
            workflow.set("FireRedEdit", num_inference_steps=options.steps)
        return "local", workflow, f"real: the model in {options.model.name}"
    steps = options.steps or TINY_STEPS
    workflow.set("FireRedEdit", num_inference_steps=steps, working_megapixels=TINY_MEGAPIXELS)
    said = (
        f"stand-in: a tiny model of random weights, {steps} steps at {TINY_MEGAPIXELS} megapixels "
        "instead of 40 at 1.0; the picture is noise-like"
    )
    return "local", workflow, said


def _fal_job(options: argparse.Namespace, loopback: bool) -> tuple[str, Workflow, str]:
    workflow = shipped("firered_edit_fal")
    if not loopback:
        if options.steps:
            workflow.set("FireRedEditFal", num_inference_steps=options.steps)
        return "fal", workflow, "real: fal.ai with your key"
    steps = options.steps or TINY_STEPS
    workflow.set("FireRedEditFal", num_inference_steps=steps)
    said = (
        "stand-in: a loopback server that speaks fal's protocol and runs the tiny model, "
        f"{steps} steps instead of 30; the picture is noise-like, nothing is billed"
    )
    return "fal", workflow, said


def _carry_out(server: ComfyUI, photo: Path, name: str, workflow: Workflow, said: str) -> str:
    """Run one shipped workflow on ``photo``; what to tell about it."""
    workflow.set("LoadImage", image=server.upload(photo))
    started = time.monotonic()
    run = server.finish(server.start(workflow), RUN_TIMEOUT_S)
    seconds = time.monotonic() - started
    picture = OUTPUT / f"{name}.png"
    shutil.copy(server.output_file(run.images(workflow.node("SaveImage"))[0]), picture)
    receipt = OUTPUT / f"{name}_receipt.json"
    receipt.write_text(run.texts(workflow.node("PreviewAny"))[0], encoding="utf-8")
    return (
        f"\n{name} node, {seconds:.1f} s\n  {said}\n"
        f"  picture: {picture} ({_size(picture)})\n  receipt: {receipt}\n"
    )


def _size(picture: Path) -> str:
    with Image.open(picture) as opened:
        return f"{opened.width}x{opened.height}"


def _serve(server: ComfyUI) -> None:
    sys.stdout.write(f"\nComfyUI stays up at {server.url}; press Ctrl+C to stop it.\n")
    sys.stdout.flush()
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        sys.stdout.write("\n")


if __name__ == "__main__":
    raise SystemExit(main())
