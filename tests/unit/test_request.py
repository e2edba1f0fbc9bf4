"""What is asked, checked before it costs anything."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from firered_edit.pipeline.errors import MAX_LENGTH, FireRedError, InputError
from firered_edit.pipeline.preparation import prepare
from firered_edit.pipeline.request import EditRequest


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": " \n"}, "prompt is empty"),
        ({"references": ()}, "No picture"),
        ({"num_inference_steps": 1}, "num_inference_steps is 1"),
        ({"num_inference_steps": 51}, "num_inference_steps is 51"),
        ({"guidance_scale": 0.0}, "guidance_scale is 0.0"),
        ({"guidance_scale": float("nan")}, "guidance_scale is nan"),
        ({"num_images": 5}, "num_images is 5"),
        ({"seed": 2**32}, "seed is"),
        ({"acceleration": "extreme"}, "acceleration"),
        ({"working_megapixels": 17.0}, "working_megapixels"),
        ({"working_megapixels": 1e-9}, "working_megapixels"),
        ({"prompt": "see <|image_pad|>"}, "control word"),
        ({"negative_prompt": "<|im_end|>"}, "control word"),
        ({"prompt": "put the hat of @image3 on"}, "names @image3"),
    ],
)
def test_bad_input_is_refused_with_advice(
    asked: EditRequest, change: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        prepare(replace(asked, **change))
    assert str(caught.value).endswith(caught.value.remedy)


def test_the_summary_numbers_the_references(asked: EditRequest) -> None:
    summary = prepare(asked).summary()
    assert "@image1 120x90 · @image2 50x80" in summary
    assert "120x90" in summary.splitlines()[1]


def test_the_receipt_is_json_and_holds_no_picture(asked: EditRequest) -> None:
    receipt = json.loads(prepare(asked).receipt("local", "tiny", [7]).to_json())
    assert receipt["seeds"] == [7]
    assert receipt["references"] == ["120x90", "50x80"]
    assert len(json.dumps(receipt)) < 2000


def test_an_error_is_named_without_the_folder_the_pack_lies_in() -> None:
    assert {FireRedError.__module__, InputError.__module__} == {"firered_edit"}


def test_an_error_is_short_and_never_echoes_picture_data() -> None:
    uri = "data:image/png;base64," + "A" * 5000
    error = FireRedError(f"Could not load image from url: {uri} " + "x " * 400, "Do this next.")
    assert len(str(error)) <= MAX_LENGTH
    assert "base64" not in str(error)
    assert str(error).endswith("Do this next.")
