"""The counted costs against torch's own counter on the real classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from firered_edit.pipeline.host import PlainHost
from firered_edit.pipeline.local.autoencoder import Mode, with_still_convolutions, working
from firered_edit.pipeline.local.costs import (
    Counts,
    TransformerShape,
    Work,
    decode_picture_work,
    encode_picture_work,
    pass_bytes,
    pass_work,
    read_prompt_work,
    transformer_parameters,
)
from firered_edit.pipeline.local.weights import load_folder
from support.real_size import real_transformer, real_vae

COUNTS = Counts(target=4096, references=4096, text=300)
TRANSFORMER_TERA = 168.6
ENCODE_TERA = 7.4
DECODE_TERA = 11.7
"""Operations of the published model at one megapixel with one reference, times 10 to the 12."""


def test_the_published_transformer_is_counted_to_the_last_parameter() -> None:
    shape = TransformerShape.of(real_transformer().config)
    assert transformer_parameters(shape) == 20_430_401_088
    assert transformer_parameters(shape) - transformer_parameters(shape, tabled=True) == (
        6_796_984_320
    )
    assert pass_bytes(shape) == 2 * 20_430_401_088
    assert 12.6 < pass_bytes(shape, 8, tabled=True) / 2**30 < 12.8


@pytest.mark.parametrize("layers", [2, 60])
@pytest.mark.parametrize("two_times", [False, True], ids=["one time", "zero_cond_t"])
def test_a_pass_is_counted_as_torch_counts_it(layers: int, two_times: bool) -> None:
    transformer = real_transformer(two_times, layers)
    counted = _counted(lambda: _pass(transformer, COUNTS))
    assert pass_work(TransformerShape.of(transformer.config), COUNTS).total == counted


def test_a_pass_at_one_megapixel_takes_what_the_table_of_floors_says() -> None:
    work = pass_work(TransformerShape.of(real_transformer().config), COUNTS)
    assert work.total / 1e12 == pytest.approx(TRANSFORMER_TERA, abs=0.1)
    assert work.attention / 1e12 == pytest.approx(53.2, abs=0.1)


def test_a_table_saves_the_modulation_and_nothing_else() -> None:
    shape = TransformerShape.of(real_transformer().config)
    saved = pass_work(shape, COUNTS).linear - pass_work(shape, COUNTS, tabled=True).linear
    matrices = 60 * 2 * 6 * shape.width**2
    assert saved == 2 * matrices


def test_kept_references_leave_the_queries_of_text_and_target() -> None:
    shape = TransformerShape.of(real_transformer().config)
    kept = pass_work(shape, COUNTS, kept=True)
    alone = pass_work(shape, Counts(COUNTS.target, 0, COUNTS.text))
    assert kept.linear == alone.linear
    assert kept.attention * (COUNTS.target + COUNTS.text) == alone.attention * COUNTS.total


@pytest.mark.parametrize("still", [False, True])
def test_the_vae_is_counted_as_torch_counts_it(still: bool) -> None:
    vae = with_still_convolutions(real_vae())
    width, height = 256, 128
    picture = torch.empty(1, 3, 1, height, width, device="meta", dtype=torch.bfloat16)
    latents = torch.empty(1, 16, 1, height // 8, width // 8, device="meta", dtype=torch.bfloat16)
    with working(vae, Mode(still)):
        encoding = _counted(lambda: vae.encode(picture))
        decoding = _counted(lambda: vae.decode(latents))
    assert encode_picture_work(vae.config, width, height, still=still).total == encoding
    assert decode_picture_work(vae.config, width, height, still=still).total == decoding


def test_a_picture_of_one_megapixel_takes_what_the_table_of_floors_says() -> None:
    config = real_vae().config
    encoding = encode_picture_work(config, 1024, 1024).total
    decoding = decode_picture_work(config, 1024, 1024).total
    assert encoding / 1e12 == pytest.approx(ENCODE_TERA, abs=0.1)
    assert decoding / 1e12 == pytest.approx(DECODE_TERA, abs=0.1)


@pytest.mark.parametrize("grid", [(8, 8), (28, 20)], ids=["one window", "windows cut off"])
def test_reading_a_prompt_is_counted_as_torch_counts_it(
    grid: tuple[int, int], tiny_model: Path
) -> None:
    model = load_folder(tiny_model, "auto", PlainHost())
    encoder: Any = model.text_encoder.module
    rows, columns = grid
    pictures = rows * columns // 4
    ids = torch.full((1, pictures + 40), 5)
    ids[0, 10 : 10 + pictures] = encoder.config.image_token_id
    asked = {
        "input_ids": ids,
        "pixel_values": torch.zeros(rows * columns, 3 * 2 * 14 * 14, dtype=model.dtype),
        "image_grid_thw": torch.tensor([[1, rows, columns]]),
        "position_ids": torch.arange(ids.shape[1]).expand(3, 1, -1),
        "use_cache": False,
    }
    counted = _counted(lambda: encoder(**asked))
    work = read_prompt_work(encoder.config.to_dict(), ids.shape[1], [grid])
    assert work.total == counted


def test_work_adds_up() -> None:
    assert Work(1, 2) + Work(3).times(2) == Work(7, 2)
    assert Work(7, 2).total == 9


def _counted(compute: Callable[[], object]) -> int:
    # Of the CPU's fused attention the counter knows nothing.
    plain = sdpa_kernel(SDPBackend.MATH)
    with torch.no_grad(), plain, FlopCounterMode(display=False) as counter:
        compute()
    return int(counter.get_total_flops())


def _pass(transformer: nn.Module, counts: Counts) -> None:
    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(shape, device="meta", dtype=torch.bfloat16)

    side = int(counts.target**0.5)
    transformer(
        hidden_states=empty(1, counts.target + counts.references, 64),
        timestep=empty(1),
        encoder_hidden_states=empty(1, counts.text, 3584),
        encoder_hidden_states_mask=None,
        img_shapes=[[(1, side, side)] * (1 + counts.references // counts.target)],
        return_dict=False,
    )
