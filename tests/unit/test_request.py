"""What is asked, checked before it costs anything."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from firered_edit.pipeline.errors import MAX_LENGTH, FireRedError, InputError
from firered_edit.pipeline.preparation import prepare
from firered_edit.pipeline.prompts import resolve_names
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


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("wear @image2", "wear Picture 2"),
        ("wear @Image2.", "wear Picture 2."),
        ("穿上@图2的衣服", "穿上图2的衣服"),
        ("wear image 2", "wear image 2"),
        ("a 4K image", "a 4K image"),
    ],
)
def test_at_names_become_what_the_model_sees(prompt: str, text: str) -> None:
    assert resolve_names(prompt, 2).text == text


@pytest.mark.parametrize(
    "prompt",
    [
        "the hat of image 5.",
        "把image5的帽子",
        "image 5的",
        "图5的天空",
        "第5张图的天空",
        "Picture 5",
    ],
)
def test_a_plain_name_out_of_range_is_only_noticed(prompt: str) -> None:
    named = resolve_names(prompt, 2)
    assert named.text == prompt
    assert "image 5" in named.notices[0]


@pytest.mark.parametrize(
    "prompt", ["image 4K", "image 2.5x larger", "图书", "imagine 5", "image 1"]
)
def test_what_names_no_picture_is_left_alone(prompt: str) -> None:
    assert resolve_names(prompt, 2).notices == ()


def test_an_error_is_named_without_the_folder_the_pack_lies_in() -> None:
    assert {FireRedError.__module__, InputError.__module__} == {"firered_edit"}


def test_an_error_is_short_and_never_echoes_picture_data() -> None:
    uri = "data:image/png;base64," + "A" * 5000
    error = FireRedError(f"Could not load image from url: {uri} " + "x " * 400, "Do this next.")
    assert len(str(error)) <= MAX_LENGTH
    assert "base64" not in str(error)
    assert str(error).endswith("Do this next.")
