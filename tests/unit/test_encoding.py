"""The prompt as the transformer sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from firered_edit.pipeline.errors import InputError
from firered_edit.pipeline.host import PlainHost
from firered_edit.pipeline.local import encoding
from firered_edit.pipeline.local.model import FireRedModel
from firered_edit.pipeline.local.weights import load_folder
from support.kinds import MakePhoto


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> FireRedModel:
    return load_folder(tiny_model, "auto", PlainHost())


def _inputs(model: FireRedModel, pictures: list[Image.Image]) -> Any:
    numbered = "".join(encoding.PICTURE.format(number=i + 1) for i in range(len(pictures)))
    text = encoding.TEMPLATE_HEAD + numbered + "make it night" + encoding.TEMPLATE_TAIL
    return model.processor(text=[text], images=pictures, return_tensors="pt")


@pytest.mark.parametrize(
    "sizes", [[(96, 64)], [(64, 128), (128, 128)], [(40, 99), (9, 70), (8, 8)]]
)
def test_positions_are_those_of_the_installed_transformers(
    model: FireRedModel, sizes: list[tuple[int, int]], photo: MakePhoto
) -> None:
    """The pinned release computes them right when it is handed the token types."""
    encoder = model.text_encoder.module
    pictures = encoding.condition_pictures([photo(*size) for size in sizes])
    inputs = _inputs(model, pictures)
    expected, _ = encoder.get_rope_index(
        inputs["input_ids"],
        image_grid_thw=inputs["image_grid_thw"],
        attention_mask=inputs["attention_mask"],
        mm_token_type_ids=inputs["mm_token_type_ids"],
    )
    is_picture = inputs["input_ids"][0] == encoder.config.image_token_id
    ours = encoding.plane_positions(is_picture, inputs["image_grid_thw"].tolist(), 2)
    assert torch.equal(ours, expected)


def test_positions_of_a_small_example() -> None:
    """Two words, a picture of 2 x 3 tokens, one word."""
    is_picture = torch.tensor([0, 0, 1, 1, 1, 1, 1, 1, 0]).bool()
    positions = encoding.plane_positions(is_picture, [[1, 4, 6]], 2)[:, 0]
    assert positions.tolist() == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5],
        [0, 1, 2, 2, 2, 3, 3, 3, 5],
        [0, 1, 2, 3, 4, 2, 3, 4, 5],
    ]


def test_positions_decide_the_embeddings(
    model: FireRedModel, photo: MakePhoto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Placed in a line, as the stock pipeline does, the same prompt means something else."""

    def embed() -> torch.Tensor:
        pictures = encoding.condition_pictures([photo(96, 64)])
        encoder, processor = model.text_encoder.module, model.processor
        with torch.inference_mode():
            return encoding.encode_prompt(
                encoder, processor, "night", pictures, torch.device("cpu")
            ).float()

    right = embed()
    monkeypatch.setattr(
        encoding,
        "plane_positions",
        lambda is_picture, *_: torch.arange(len(is_picture)).expand(3, 1, -1),
    )
    assert (embed() - right).norm() / right.norm() > 0.05


def test_a_prompt_beyond_the_table_of_positions_is_refused(
    model: FireRedModel, photo: MakePhoto
) -> None:
    pictures = encoding.condition_pictures([photo(96, 64)])
    encoder, device = model.text_encoder.module, torch.device("cpu")
    with pytest.raises(InputError, match="tokens long"):
        encoding.encode_prompt(encoder, model.processor, "word " * 4000, pictures, device)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1024, 1024), (384, 384)), ((1600, 900), (512, 288)), ((64, 512), (128, 1088))],
)
def test_condition_pictures_have_the_reference_size(
    size: tuple[int, int], expected: tuple[int, int], photo: MakePhoto
) -> None:
    (picture,) = encoding.condition_pictures([photo(*size)])
    assert picture.size == expected
