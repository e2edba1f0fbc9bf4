"""What an edit takes in memory, known beforehand, and what follows from it."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import pytest
import torch
from torch import nn

from firered_edit.pipeline.errors import InputError, SetupError
from firered_edit.pipeline.host import Handle, LayerKit, PlainHandle, PlainHost, PlainKit, Storage
from firered_edit.pipeline.local.acceleration.blocks import StreamNorms
from firered_edit.pipeline.local.acceleration.kernels import EAGER, Norms
from firered_edit.pipeline.local.acceleration.passes import FusedPasses
from firered_edit.pipeline.local.autoencoder import Mode, with_still_convolutions, working
from firered_edit.pipeline.local.caches import Cache
from firered_edit.pipeline.local.checkpoints import Checkpoint, Entry
from firered_edit.pipeline.local.engine import LocalEngine
from firered_edit.pipeline.local.estimates import GIB, TILE, Estimate, estimate
from firered_edit.pipeline.local.families import Part
from firered_edit.pipeline.local.latents import Tokens
from firered_edit.pipeline.local.model import FireRedModel, Precision
from firered_edit.pipeline.local.modulation import take_out
from firered_edit.pipeline.local.precision import (
    choose_storage,
    describe_storage,
    resident_bytes,
)
from firered_edit.pipeline.request import Acceleration
from support.inside import InsideHost
from support.peak import peak_bytes
from support.real_size import real_transformer, real_vae
from support.square_edits import square_edit

AMPLE = 2**50


def _real_model(zero_cond_t: bool = False) -> FireRedModel:
    """The published architecture as a model; what an estimate does not look at is missing."""
    transformer, vae = map(PlainHandle, (real_transformer(zero_cond_t), real_vae()))
    nothing = PlainHandle(nn.Module())
    return FireRedModel(
        name="real",
        transformer=transformer,
        modulation=nothing,
        text_encoder=nothing,
        vae=vae,
        scheduler=cast(Any, None),
        processor=cast(Any, None),
        dtype=torch.bfloat16,
        precision="bfloat16",
        cache=Cache(),
    )


def _estimate(
    megapixels: float, references: int = 1, total: int = AMPLE, *, zero_cond_t: bool = False
) -> Estimate:
    return estimate(_real_model(zero_cond_t), square_edit(megapixels, references, steps=2), total)


@pytest.mark.parametrize(
    ("references", "zero_cond_t", "published"),
    [
        (1, False, 0.73),
        (2, False, 1.09),
        (3, False, 1.45),
        (1, True, 0.82),
        (2, True, 1.23),
        (3, True, 1.64),
    ],
)
def test_a_pass_takes_what_is_counted_on_the_real_architecture(
    references: int, zero_cond_t: bool, published: float
) -> None:
    counted = _pass_bytes(references, zero_cond_t)
    found = _estimate(1.0, references, zero_cond_t=zero_cond_t).denoise
    assert counted / GIB == pytest.approx(published, rel=0.02)
    assert counted <= found <= counted * 1.1


def _pass_bytes(references: int, zero_cond_t: bool) -> int:
    """The peak of a pass at one megapixel; two blocks do, as none leaves anything behind."""
    transformer = real_transformer(zero_cond_t, layers=2)
    meta = partial(torch.empty, device="meta", dtype=torch.bfloat16)
    arguments = {
        "hidden_states": meta(1, 4096 * (1 + references), 64),
        "timestep": meta(1),
        "encoder_hidden_states": meta(1, 35 + 204 * references, 3584),
        "encoder_hidden_states_mask": None,
        "img_shapes": [[(1, 64, 64)] * (1 + references)],
    }
    return peak_bytes(transformer, lambda: transformer(**arguments))


@pytest.mark.parametrize("zero_cond_t", [False, True])
@pytest.mark.parametrize("references", [1, 2, 3])
@pytest.mark.parametrize("branches", [1, 2])
def test_a_fused_pass_takes_what_is_counted_on_the_real_architecture(
    references: int, zero_cond_t: bool, branches: int
) -> None:
    prepared = square_edit(1.0, references, 2, "regular", 4.0 if branches == 2 else 1.0)
    found = estimate(_real_model(zero_cond_t), prepared, AMPLE)
    assert found.paired == (branches == 2)
    counted = _fused_bytes(references, zero_cond_t, branches)
    assert counted <= found.denoise <= counted * 1.25


def _fused_bytes(references: int, zero_cond_t: bool, branches: int) -> int:
    """The peak of a pass of so many branches, uncompiled."""
    transformer = copy.deepcopy(real_transformer(zero_cond_t, layers=2))
    take_out(transformer)
    meta = partial(torch.empty, device="meta", dtype=torch.bfloat16)
    norms = Norms(meta(128), meta(128))
    for block in transformer.transformer_blocks:
        block.img_mod.value = meta(1 + zero_cond_t, 6 * 3072)
        block.txt_mod.value = meta(1, 6 * 3072)

    def run() -> object:
        passes = FusedPasses(
            transformer,
            (64, 64),
            [Tokens(meta(1, 4096, 64), (64, 64))] * references,
            [[meta(1, 35 + 204 * references, 3584)] * branches],
            [StreamNorms(norms, norms)] * 2,
            EAGER,
            lambda: None,
        )
        return passes(meta(1, 4096, 64), meta(1))

    return peak_bytes(transformer, run)


@pytest.mark.parametrize(
    ("gib", "acceleration", "guidance_scale", "paired"),
    [
        (8, "regular", 4.0, True),
        (8, "high", 4.0, True),
        (8, "none", 4.0, False),
        (8, "regular", 1.0, False),
        (3, "regular", 4.0, False),
    ],
)
def test_branches_share_a_pass_where_the_card_has_room_for_both(
    gib: int, acceleration: Acceleration, guidance_scale: float, paired: bool
) -> None:
    prepared = square_edit(1.0, 3, 2, acceleration, guidance_scale)
    assert estimate(_real_model(), prepared, gib * GIB).paired == paired


@pytest.mark.parametrize(("zero_cond_t", "published"), [(False, 177e6), (True, 265e6)])
def test_a_pass_has_the_table_of_its_steps_beside_it(zero_cond_t: bool, published: float) -> None:
    model = _real_model(zero_cond_t)
    few, many = (estimate(model, square_edit(steps=steps), AMPLE) for steps in (10, 50))
    assert many.denoise - few.denoise == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize("still", [False, True])
@pytest.mark.parametrize(
    ("phase", "side", "published"),
    [("decode", 1024, 3.4), ("decode", 1536, 7.6), ("encode", 1024, 1.9)],
)
def test_the_vae_takes_what_is_counted_on_the_real_architecture(
    phase: str, side: int, published: float, still: bool
) -> None:
    counted = _vae_bytes(phase, side, Mode(still))
    found = getattr(_estimate((side / 1024) ** 2), phase)
    assert counted / GIB == pytest.approx(published, rel=0.12 if still else 0.02)
    assert counted <= found <= counted * 1.13


def _vae_bytes(phase: str, side: int, mode: Mode) -> int:
    vae = with_still_convolutions(real_vae())
    meta = partial(torch.empty, device="meta", dtype=torch.bfloat16)
    whole, latent = (1, 3, 1, side, side), (1, 16, 1, side // 8, side // 8)
    given = meta(whole if phase == "encode" else latent)
    with working(vae, mode):
        return peak_bytes(vae, lambda: getattr(vae, phase)(given))


def test_a_tile_takes_what_is_counted_on_the_real_architecture() -> None:
    counted = _vae_bytes("decode", TILE, Mode())
    assert counted <= _estimate(4.0, total=8 * GIB).decode <= counted * 1.1


@pytest.mark.parametrize("phase", ["encode", "denoise", "decode"])
def test_an_estimate_grows_with_the_canvas(phase: str) -> None:
    found = [getattr(_estimate(megapixels), phase) for megapixels in (0.25, 1.0, 2.25, 4.0)]
    assert found == sorted(set(found))


def test_only_a_pass_grows_with_the_pictures() -> None:
    found = [_estimate(1.0, references) for references in (1, 2, 3)]
    assert [each.denoise for each in found] == sorted({each.denoise for each in found})
    assert len({(each.encode, each.decode) for each in found}) == 1


@pytest.mark.parametrize(
    ("megapixels", "gib", "encode_tile", "decode_tile"),
    [
        (1.0, 80, None, None),
        (1.0, 6, None, None),
        (1.0, 4.3, None, TILE),
        (1.0, 2.5, TILE, TILE),
        (2.25, 12, None, None),
        (2.25, 8, None, TILE),
        (4.0, 24, None, None),
        (4.0, 12, None, TILE),
        (4.0, 8, TILE, TILE),
    ],
)
def test_the_vae_works_in_tiles_only_where_a_picture_does_not_fit_whole(
    megapixels: float, gib: float, encode_tile: int | None, decode_tile: int | None
) -> None:
    found = _estimate(megapixels, total=int(gib * GIB))
    assert (found.encode_tile, found.decode_tile) == (encode_tile, decode_tile)


def test_tiles_take_less() -> None:
    whole, tiled = _estimate(4.0), _estimate(4.0, total=8 * GIB)
    assert tiled.encode < whole.encode
    assert tiled.decode < whole.decode
    assert tiled.denoise == whole.denoise


@pytest.mark.parametrize(
    ("megapixels", "references", "gib"), [(16.0, 3, 12), (16.0, 1, 10), (4.0, 3, 4), (1.0, 1, 1)]
)
def test_what_cannot_fit_is_refused_with_both_numbers_and_advice(
    megapixels: float, references: int, gib: int
) -> None:
    with pytest.raises(SetupError) as caught:
        _estimate(megapixels, references, gib * GIB)
    text = str(caught.value)
    assert f"{megapixels:.1f} megapixels with {references} picture" in text
    assert f"this device has {gib:.1f}" in text
    needed = float(text.split("needs ")[1].split(" GB")[0])
    assert needed > gib
    assert text.endswith(
        "Lower working_megapixels, connect fewer pictures, or use FireRed Edit (fal)."
    )


def test_the_refusal_names_the_least_that_would_do() -> None:
    """A device with what was asked for, rounded up, carries the edit out."""
    with pytest.raises(SetupError) as caught:
        _estimate(16.0, 3, 12 * GIB)
    needed = float(str(caught.value).split("needs ")[1].split(" GB")[0])
    assert _estimate(16.0, 3, math.ceil((needed + 0.1) * GIB)).decode_tile == TILE


class _Card(PlainHost):
    """A host with so much memory, whose layers know an 8-bit format."""

    def __init__(self, gib: float, eight_bit: Storage | None = "fp8") -> None:
        super().__init__()
        self._gib = gib
        self._eight_bit = eight_bit
        self.moved = 0

    @property
    def total_memory(self) -> int:
        return int(self._gib * GIB)

    @property
    def layers(self) -> LayerKit:
        kit = PlainKit()
        kit.eight_bit = self._eight_bit
        return kit

    def load(self, handles: Sequence[Handle], activation_bytes: int) -> None:
        self.moved += 1
        super().load(handles, activation_bytes)


def test_a_refused_edit_has_moved_no_weight() -> None:
    card = _Card(0.5)
    with pytest.raises(SetupError, match=r"this device has 0\.5"):
        LocalEngine(_real_model(), card).edit(square_edit(steps=2).request)
    assert card.moved == 0


def _part(dtype: str = "BF16", scale: int = 2) -> Part:
    """The real transformer as a file's header tells of it, ``scale`` bytes a number."""
    entries = {
        name: Entry(dtype, tuple(tensor.shape), tensor.numel() * scale)
        for name, tensor in real_transformer().state_dict().items()
    }
    return Part(Checkpoint("model.safetensors", (), entries), {}, {})


BF16, FP8, INT8 = _part(), _part("F8_E4M3", 1), _part("I8", 1)


def test_a_pass_needs_the_published_two_thirds() -> None:
    assert BF16.checkpoint.size / GIB == pytest.approx(38.1, abs=0.1)
    assert resident_bytes(BF16) / GIB == pytest.approx(25.4, abs=0.1)
    assert resident_bytes(FP8) / GIB == pytest.approx(12.7, abs=0.1)


@pytest.mark.parametrize("eight_bit", ["fp8", "int8"])
@pytest.mark.parametrize(
    ("gib", "kept"), [(80, True), (48, True), (32, True), (31.3, True), (24, False), (16, False)]
)
def test_auto_keeps_bf16_where_the_card_can_hold_it(
    gib: float, kept: bool, eight_bit: Storage
) -> None:
    found = choose_storage("auto", BF16, _Card(gib, eight_bit))
    assert found == ("stored" if kept else eight_bit)


@pytest.mark.parametrize("gib", [80, 24, 8])
@pytest.mark.parametrize("part", [FP8, INT8], ids=["fp8", "int8"])
@pytest.mark.parametrize("eight_bit", ["fp8", "int8", None])
def test_auto_keeps_what_is_stored_in_8_bits(
    gib: float, part: Part, eight_bit: Storage | None
) -> None:
    assert choose_storage("auto", part, _Card(gib, eight_bit)) == "stored"


@pytest.mark.parametrize("gib", [80, 24, 8])
def test_auto_never_quantises_where_no_format_suits(gib: float) -> None:
    assert choose_storage("auto", BF16, _Card(gib, eight_bit=None)) == "stored"


def test_no_format_suits_the_cpu() -> None:
    assert PlainHost().layers.eight_bit is InsideHost().layers.eight_bit is None


@pytest.mark.parametrize(
    ("precision", "part", "expected"),
    [
        ("bf16", BF16, "stored"),
        ("bf16", FP8, "full"),
        ("fp8", BF16, "fp8"),
        ("int8", BF16, "int8"),
        ("fp8", FP8, "stored"),
        ("int8", INT8, "stored"),
    ],
)
def test_the_artists_choice_counts_whatever_the_card(
    precision: Precision, part: Part, expected: Storage
) -> None:
    assert {choose_storage(precision, part, _Card(gib)) for gib in (80, 16)} == {expected}


@pytest.mark.parametrize(("precision", "part"), [("int8", FP8), ("fp8", INT8)])
def test_one_8_bit_format_is_not_brought_to_another(precision: Precision, part: Part) -> None:
    with pytest.raises(InputError, match=r"model\.safetensors is stored in .* Choose auto"):
        choose_storage(precision, part, _Card(80))


UNPACKED = "unpacked to bfloat16 for each layer: slower than bfloat16 where that fits"
PARTLY = "60% multiplied in fp8, the rest unpacked to bfloat16 for each layer"
NEEDS = "(25.4 GB stored, 24.0 GB on the device)"


@pytest.mark.parametrize(
    ("storage", "part", "multiplied", "text"),
    [
        ("stored", BF16, 0.0, "bfloat16"),
        ("full", BF16, 0.0, "bfloat16"),
        ("full", FP8, 0.0, "bfloat16"),
        ("stored", FP8, 0.0, f"fp8, {UNPACKED}"),
        ("stored", FP8, 0.6, f"fp8, {PARTLY}"),
        ("stored", INT8, 1.0, "int8, multiplied in int8"),
        ("fp8", BF16, 1.0, f"fp8 from bfloat16 {NEEDS}, multiplied in fp8"),
        ("int8", BF16, 0.0, f"int8 from bfloat16 {NEEDS}, {UNPACKED}"),
    ],
)
def test_the_receipt_says_how_weights_lie_and_compute_and_why(
    storage: Storage, part: Part, multiplied: float, text: str
) -> None:
    assert describe_storage(storage, part, torch.bfloat16, _Card(24), multiplied) == text
