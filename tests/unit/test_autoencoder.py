"""The VAE on single frames and in tiles: the same pictures for less, and nothing left behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLQwenImage
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from firered_edit.pipeline.host import PlainHost
from firered_edit.pipeline.local.autoencoder import Mode, with_still_convolutions, working
from firered_edit.pipeline.local.engine import LocalEngine
from firered_edit.pipeline.local.weights import load_folder
from firered_edit.pipeline.request import EditRequest
from support.inside import InsideHost
from support.kinds import MakeReference
from support.real_size import real_vae

STILL = Mode(still=True)
SIZES = [(16, 16), (48, 32), (96, 64), (32, 112)]
LARGER_THAN_A_TILE = [(384, 32), (32, 320), (288, 16)]
PHASES = ["encode", "decode"]


pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def stock(tiny_model_fp32: Path) -> Any:
    """The reference's VAE, as diffusers loads it."""
    return AutoencoderKLQwenImage.from_pretrained(tiny_model_fp32 / "vae", dtype=torch.float32)


@pytest.fixture(scope="module", params=[PlainHost, InsideHost], ids=["plain", "inside ComfyUI"])
def vae(request: pytest.FixtureRequest, tiny_model_fp32: Path) -> Any:
    return load_folder(tiny_model_fp32, "auto", request.param()).vae.module


def _run(vae: Any, phase: str, size: tuple[int, int], mode: Mode) -> Tensor:
    with working(vae, mode):
        return _as_it_is(vae, phase, size)


def _as_it_is(vae: Any, phase: str, size: tuple[int, int]) -> Tensor:
    """A random picture encoded, or random latents decoded."""
    width, height = size
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        if phase == "encode":
            picture = torch.rand((1, 3, 1, height, width), generator=generator) * 2 - 1
            latents: Tensor = vae.encode(picture).latent_dist.mode()
            return latents
        latents = torch.randn((1, 16, 1, height // 8, width // 8), generator=generator)
        decoded: Tensor = vae.decode(latents).sample
        return decoded


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("size", SIZES)
def test_by_default_it_is_the_reference_to_the_bit(
    stock: Any, vae: Any, phase: str, size: tuple[int, int]
) -> None:
    expected = _as_it_is(stock, phase, size)
    assert torch.equal(_run(vae, phase, size, Mode()), expected)
    assert torch.equal(_as_it_is(vae, phase, size), expected)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("size", SIZES)
def test_single_frames_are_the_reference_up_to_rounding(
    stock: Any, vae: Any, phase: str, size: tuple[int, int]
) -> None:
    """Measured: 4e-6 at the most, of values of the size of 1."""
    difference = _run(vae, phase, size, STILL) - _as_it_is(stock, phase, size)
    assert difference.abs().max() < 2e-5


def _convolution_flops(vae: Any, phase: str, mode: Mode) -> int:
    shape = (1, 3, 1, 256, 256) if phase == "encode" else (1, 16, 1, 32, 32)
    given = torch.empty(shape, device="meta", dtype=torch.bfloat16)
    with working(vae, mode), torch.no_grad(), FlopCounterMode(display=False) as counter:
        getattr(vae, phase)(given)
    return int(counter.get_flop_counts()["Global"][torch.ops.aten.convolution])


@pytest.mark.parametrize("phase", PHASES)
def test_single_frames_are_much_less_work_at_the_real_size(phase: str) -> None:
    """Two of three taps are left out; what was two-dimensional already stays."""
    vae = with_still_convolutions(real_vae())
    whole, still = (_convolution_flops(vae, phase, mode) for mode in (Mode(), STILL))
    assert 2.5 <= whole / still <= 3


def _film(vae: Any, mode: Mode) -> Tensor:
    film = torch.rand((1, 3, 5, 16, 16), generator=torch.Generator().manual_seed(0))
    with working(vae, mode), torch.no_grad():
        latents: Tensor = vae.encode(film).latent_dist.mode()
    return latents


def test_what_is_no_single_frame_is_not_shortened(vae: Any) -> None:
    """Frames after the first meet those before: there all taps count."""
    assert (_film(vae, STILL) - _film(vae, Mode())).abs().max() < 2e-5


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("size", LARGER_THAN_A_TILE)
def test_tiles_differ_little(vae: Any, phase: str, size: tuple[int, int]) -> None:
    """Not nothing: in a tile attention sees less of the picture. Random weights overstate it."""
    whole = _run(vae, phase, size, STILL)
    tiled = _run(vae, phase, size, Mode(still=True, tile=256))
    assert tiled.shape == whole.shape
    assert 0 < (tiled - whole).abs().mean() < 0.25 * whole.std()


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("size", [(256, 16), (96, 64)])
def test_a_picture_no_larger_than_a_tile_is_the_same_in_tiles(
    vae: Any, phase: str, size: tuple[int, int]
) -> None:
    tiled = _run(vae, phase, size, Mode(tile=256))
    assert torch.equal(tiled, _run(vae, phase, size, Mode()))


@pytest.mark.parametrize("phase", PHASES)
def test_a_large_picture_is_whole_unless_tiles_are_asked_for(
    stock: Any, vae: Any, phase: str
) -> None:
    """Also after tiles were: the stock VAE would keep them on."""
    size = LARGER_THAN_A_TILE[0]
    expected = _as_it_is(stock, phase, size)
    assert torch.equal(_run(vae, phase, size, Mode()), expected)
    _run(vae, phase, size, Mode(tile=256))
    assert torch.equal(_run(vae, phase, size, Mode()), expected)


class _Stopped(BaseException):
    """As ComfyUI's own cancel: no ``Exception``."""


def _is_reset(vae: Any) -> bool:
    frames = [*vae._feat_map, *vae._enc_feat_map]
    layers = [layer for layer in vae.modules() if getattr(layer, "still", False)]
    return not vae.use_tiling and not layers and all(frame is None for frame in frames)


@pytest.mark.parametrize("error", [RuntimeError, torch.OutOfMemoryError, _Stopped])
@pytest.mark.parametrize("mode", [Mode(), STILL, Mode(still=True, tile=256)], ids=str)
@pytest.mark.parametrize("phase", PHASES)
def test_after_an_exception_everything_is_reset(
    stock: Any, vae: Any, phase: str, mode: Mode, error: type[BaseException]
) -> None:
    half_way = vae.encoder.mid_block if phase == "encode" else vae.decoder.up_blocks[1]

    def stop(*_: object) -> None:
        raise error("half way")

    with half_way.register_forward_hook(stop), pytest.raises(error):
        _run(vae, phase, LARGER_THAN_A_TILE[0], mode)
    assert _is_reset(vae)
    for each in PHASES:
        assert torch.equal(_as_it_is(vae, each, (48, 32)), _as_it_is(stock, each, (48, 32)))


def test_an_ordinary_end_resets_everything_too(vae: Any) -> None:
    _run(vae, "decode", (48, 32), Mode(still=True, tile=256))
    assert _is_reset(vae)


def test_a_regular_edit_is_close_to_the_reference(
    tiny_model_fp32: Path, asked: EditRequest, reference: MakeReference
) -> None:
    """The same mathematics but for rounding, all the way through an edit."""
    model = load_folder(tiny_model_fp32, "auto", PlainHost())
    edit = replace(asked, references=(reference(48, 32),), num_inference_steps=2)
    exact, regular = (
        LocalEngine(model, PlainHost()).edit(replace(edit, acceleration=acceleration)).images
        for acceleration in ("none", "regular")
    )
    assert 0 < (exact - regular).abs().max() < 1e-3
