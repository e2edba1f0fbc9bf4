"""Models loaded from files that were made wrong, and the rules that this must keep."""

from __future__ import annotations

import random
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.torch import load_file

from doubles.tiny_files import (
    linear_layers,
    write_lora,
    write_text_encoder,
    write_transformer,
    write_vae,
)
from firered_edit.pipeline.errors import MAX_LENGTH, FireRedError, ResultError
from firered_edit.pipeline.geometry import MatchImage
from firered_edit.pipeline.images import Reference
from firered_edit.pipeline.local.engine import LocalEngine
from firered_edit.pipeline.local.loras import use_lora
from firered_edit.pipeline.local.model import FireRedModel
from firered_edit.pipeline.local.weights import ModelFiles, load_files, load_folder
from firered_edit.pipeline.request import EditRequest
from support.fuzz_files import PROOF, damages
from support.inside import InsideHost

MOST_SECONDS = 15.0
"""For one load of a tiny model and an edit with it."""

MOST_BYTES = 400 * 1024 * 1024
"""That a load of a tiny model and an edit with it may add to what the process took at most."""

LOADED = "loaded"


@dataclass(frozen=True)
class Met:
    """What came of one damaged file. ``broken`` are the rules it broke, in words."""

    number: int
    kind: str
    file: str
    damage: str
    outcome: str
    broken: list[str]

    def __str__(self) -> str:
        return f"trial {self.number}: {self.kind}, {self.file}, {self.damage}: {self.broken}"


class _TooLong(BaseException):
    """Nobody who catches errors catches this."""


class Workshop:
    """Sound files of the tiny model below ``folder``, and damaged copies of them."""

    def __init__(self, tiny: Path, folder: Path, seed: int) -> None:
        self._tiny = tiny
        self._sound = folder / "sound"
        self._copy = folder / "a folder of models"
        self._seed = seed
        self.host = InsideHost(tiny / "tokenizer")
        self._files = self._written()
        self._model = load_files(self._files["bf16"], "auto", self.host)
        self._kinds: dict[str, Callable[[random.Random], _Chosen]] = {
            **{name: partial(self._single, name) for name in self._files},
            "folder": self._folder,
            "lora": self._lora,
        }

    @property
    def kinds(self) -> list[str]:
        return list(self._kinds)

    def meet(self, number: int, kind: str | None = None) -> Met:
        """Damage a file of ``kind``, or any, and use it."""
        rng = random.Random(f"{self._seed} {number}")
        kind = kind or rng.choice(self.kinds)
        shutil.rmtree(self._copy, ignore_errors=True)
        chosen = self._kinds[kind](rng)
        damage = rng.choice(damages(chosen.file))
        damage.change(chosen.file, rng)
        outcome, broken = self._used(chosen)
        return Met(number, kind, chosen.file.name, damage.name, outcome, broken)

    def _used(self, chosen: _Chosen) -> tuple[str, list[str]]:
        before = _most_memory()
        try:
            with _at_most(MOST_SECONDS):
                self._edit(chosen.load())
            outcome, broken = LOADED, []
        except FireRedError as error:
            outcome, broken = type(error).__name__, list(self._defects(error, chosen))
        except _TooLong:
            outcome, broken = "hangs", [f"takes more than {MOST_SECONDS} s"]
        except Exception as error:  # noqa: BLE001 - that there is none is what is asked
            outcome, broken = "unnamed", [f"unnamed {error!r:.300}"]
        if (grown := _most_memory() - before) > MOST_BYTES:
            broken.append(f"took {grown >> 20} MiB")
        if list(self._copy.rglob(PROOF)):
            broken.append("a pickle was executed")
        return outcome, broken

    def _defects(self, error: FireRedError, chosen: _Chosen) -> Iterator[str]:
        words = str(error)
        if not isinstance(error, ResultError) and not any(name in words for name in chosen.names):
            yield f"names none of {chosen.names}: {words}"
        if str(self._copy.parent) in words or "/" in words.replace(chosen.names[0], "").split()[0]:
            yield f"shows a path: {words}"
        if not error.remedy or not words.endswith(error.remedy) or len(words) > MAX_LENGTH:
            yield f"ends without advice, or is too long: {words}"

    def _edit(self, model: FireRedModel) -> None:
        config: Any = model.text_encoder.module.config
        config.image_token_id = model.processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
        model.cache.clear()
        LocalEngine(model, self.host).edit(_EDIT)

    def _written(self) -> dict[str, ModelFiles]:
        tiny, at = self._tiny, self._sound
        plain = ModelFiles(
            write_transformer(tiny, at / "bf16.safetensors"),
            write_text_encoder(tiny, at / "encoder.safetensors"),
            write_vae(tiny, at / "vae.safetensors"),
        )
        layers = linear_layers(tiny)
        for layout in ("bare down up alpha", "lokr", "diffusers"):
            write_lora(at / "loras" / f"{layout}.safetensors", layers, layout)
        fp8 = write_transformer(tiny, at / "fp8.safetensors", quantisation="float8_e4m3fn")
        nvfp4 = write_transformer(tiny, at / "nvfp4.safetensors", quantisation="nvfp4")
        old = write_text_encoder(tiny, at / "old.safetensors", quantisation="scaled_fp8")
        return {
            "bf16": plain,
            "fp8": replace(plain, diffusion_model=fp8),
            "nvfp4": replace(plain, diffusion_model=nvfp4),
            "gguf": replace(plain, diffusion_model=_write_gguf(tiny, at / "packed.gguf")),
            "text encoder": plain,
            "old text encoder": replace(plain, text_encoder=old),
            "vae": plain,
        }

    def _single(self, kind: str, _: random.Random) -> _Chosen:
        part = _PARTS.get(kind, "diffusion_model")
        files = self._files[kind]
        file = self._copied(getattr(files, part))
        damaged = replace(files, **{part: file})
        return _Chosen(file, (file.name,), lambda: load_files(damaged, "auto", self.host))

    def _lora(self, rng: random.Random) -> _Chosen:
        file = self._copied(rng.choice(sorted((self._sound / "loras").iterdir())))
        return _Chosen(
            file, (file.name,), lambda: use_lora(self._model, file, 1.0, True, self.host)
        )

    def _copied(self, file: Path) -> Path:
        self._copy.mkdir()
        return Path(shutil.copy2(file, self._copy))

    def _folder(self, rng: random.Random) -> _Chosen:
        shutil.copytree(self._tiny, self._copy)
        file = rng.choice([found for found in self._copy.rglob("*.*") if found.suffix in _READ])
        part = file.parent.name
        names = (f"{part}/{file.name}", file.name, part, "processor", self._copy.name)
        return _Chosen(file, names, lambda: load_folder(self._copy, "auto", self.host))


@dataclass(frozen=True)
class _Chosen:
    """A sound copy of a file, by which of its names an error may call it, and how it is loaded."""

    file: Path
    names: tuple[str, ...]
    load: Callable[[], FireRedModel]


_PARTS = {"text encoder": "text_encoder", "old text encoder": "text_encoder", "vae": "vae"}

_READ = (".json", ".safetensors")

_EDIT = EditRequest(
    prompt="put the hat on",
    references=(Reference(np.full((48, 64, 3), 99, np.uint8)),),
    size=MatchImage(),
    num_images=1,
    seed=7,
    num_inference_steps=2,
    guidance_scale=1.0,
    negative_prompt="",
    acceleration="none",
    working_megapixels=0.0,
)


def _write_gguf(tiny: Path, file: Path) -> Path:
    writer = gguf.GGUFWriter(str(file), "qwen_image")
    for shard in sorted((tiny / "transformer").glob("*.safetensors")):
        for name, weight in load_file(shard).items():
            kind = gguf.GGMLQuantizationType.Q8_0 if weight.ndim == 2 else _PLAIN
            packed = gguf.quants.quantize(weight.float().numpy(), kind)
            writer.add_tensor(name, packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


_PLAIN = gguf.GGMLQuantizationType.F32


def _most_memory() -> int:
    """Bytes that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Leave the context by ``_TooLong`` where it takes longer."""

    def ring(*_: object) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
