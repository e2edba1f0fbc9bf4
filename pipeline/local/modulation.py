"""The third of the transformer that is a function of the timestep alone, as a table.

Every block scales, shifts and gates its streams by vectors computed from the timestep's embedding
and nothing else. They are computed once per schedule, timestep by timestep as a pass would, so the
picture stays the same to the bit; the layers behind them, a third of all parameters, are never on
the device at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..host import Handle, LocalHost
from .cancelling import check_cancelled

if TYPE_CHECKING:
    from diffusers import QwenImageTransformer2DModel


class Row(nn.Module):
    """Stands in a block where its modulation layer was, and gives what was computed for it."""

    value: Tensor

    def forward(self, _embedding: Tensor) -> Tensor:
        return self.value


class BlockModulation(nn.Module):
    """The two modulation layers of one block, under their own names."""

    def __init__(self, img_mod: nn.Module, txt_mod: nn.Module) -> None:
        super().__init__()
        self.img_mod = img_mod
        self.txt_mod = txt_mod


class Modulation(nn.Module):
    """All modulation layers, under the names they have in the transformer: LoRAs find them."""

    def __init__(self, blocks: Sequence[BlockModulation]) -> None:
        super().__init__()
        self.transformer_blocks = nn.ModuleList(blocks)

    def layers(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        """The picture's and the text's layer of every block."""
        for block in self.transformer_blocks:
            assert isinstance(block, BlockModulation)
            yield block.img_mod, block.txt_mod


def take_out(transformer: QwenImageTransformer2DModel) -> Modulation:
    """Take the modulation layers out of ``transformer`` and leave a ``Row`` for each."""
    blocks = []
    for block in transformer.transformer_blocks:
        blocks.append(BlockModulation(block.img_mod, block.txt_mod))
        block.img_mod, block.txt_mod = Row(), Row()
    return Modulation(blocks)


@dataclass(frozen=True)
class Table:
    """Modulation vectors of a schedule.

    ``image`` is (steps, blocks, n, 6 * D), where n is 2 if references are modulated as at timestep
    zero and else 1; ``text`` is (steps, blocks, 1, 6 * D).
    """

    image: Tensor
    text: Tensor

    def to(self, device: torch.device) -> Table:
        return Table(self.image.to(device), self.text.to(device))

    def select(self, transformer: QwenImageTransformer2DModel, step: int) -> None:
        """Let the blocks of ``transformer`` see the vectors of ``step``."""
        rows = zip(transformer.transformer_blocks, self.image[step], self.text[step], strict=True)
        for block, image, text in rows:
            block.img_mod.value, block.txt_mod.value = image, text


def compute_table(
    transformer: QwenImageTransformer2DModel,
    modulation: Handle,
    times: Sequence[Tensor],
    host: LocalHost,
) -> Table:
    """The table for ``times``, each (1,) as a pass takes it.

    The transformer must be on the device; of ``modulation`` one layer at a time comes there.
    """
    embeddings = [_embed(transformer, time) for time in times]
    # Text is never modulated as at timestep zero.
    first = [embedding[:1] for embedding in embeddings]
    module = modulation.module
    assert isinstance(module, Modulation)
    image, text = [], []
    for of_image, of_text in module.layers():
        check_cancelled(host)
        image.append(_rows(of_image, embeddings, modulation, host))
        text.append(_rows(of_text, first, modulation, host))
    return Table(torch.stack(image, dim=1), torch.stack(text, dim=1))


def clear_rows(transformer: QwenImageTransformer2DModel) -> None:
    """Let go of what ``Table.select`` left in the blocks, and with it of the device's memory."""
    for block in transformer.transformer_blocks:
        for row in (block.img_mod, block.txt_mod):
            row.__dict__.pop("value", None)


def _embed(transformer: QwenImageTransformer2DModel, time: Tensor) -> Tensor:
    if transformer.zero_cond_t:
        time = torch.cat([time, time * 0])
    embedding: Tensor = transformer.time_text_embed(time, time)
    return embedding


def _rows(
    layer: nn.Module, embeddings: Sequence[Tensor], modulation: Handle, host: LocalHost
) -> Tensor:
    with host.borrowed(modulation, layer):
        return torch.stack([layer(embedding) for embedding in embeddings])
