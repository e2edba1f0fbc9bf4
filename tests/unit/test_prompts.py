"""Which words of a prompt name pictures, and which only look like it."""

from __future__ import annotations

import pytest

from firered_edit.pipeline.errors import InputError
from firered_edit.pipeline.prompts import (
    Placement,
    check_names,
    find_names,
    renumber,
    resolve_names,
)

TWELVE = 12

NAMED = [
    # @ names: every spelling, and Chinese around them
    ("@image2", [2]),
    ("@Image2's hat on @image1", [2, 1]),
    ("@image 3, please", [3]),
    ("@IMG4", [4]),
    ("@picture5.", [5]),
    ("把@图2的帽子戴到@图1上", [2, 1]),
    ("用@图片3替换", [3]),
    ("换成@图２的颜色", [2]),
    # plain English
    ("the hat of image 2", [2]),
    ("the hat of image2", [2]),
    ("image_2 as background", [2]),
    ("Image #4 and picture 5", [4, 5]),
    ("photo 1, photo 2", [1, 2]),
    ("把 image 2 的帽子", [2]),
    ("as in image 2.", [2]),
    ("image 1: the woman", [1]),
    ("Merge images 1, 2 and 5", [1, 2, 5]),
    ("pictures 2-4 on a table", [2, 3, 4]),
    ("images 2 to 4", [2, 3, 4]),
    ("the coats of images 1 or 3", [1, 3]),
    ("the second image", [2]),
    ("the 3rd reference picture", [3]),
    ("the last photo", [TWELVE]),
    # plain Chinese
    ("图2", [2]),
    ("把图2的帽子戴到图1的人头上", [2, 1]),
    ("图１和图３", [1, 3]),
    ("图1和2的人", [1, 2]),
    ("图1、2、5", [1, 2, 5]),
    ("图2至4", [2, 3, 4]),
    ("图片3中的狗", [3]),
    ("第2张图", [2]),
    ("第二张图片里的人", [2]),
    ("第十一幅图", [11]),
    ("最后一张图", [TWELVE]),
    ("参考图2的光线", [2]),
    ("图一的人穿图二的衣服", [1, 2]),
    ("图2分别放在左右", [2]),
    ("图1比图2亮", [1, 2]),
]

UNTOUCHED = [
    *("image 4K", "an image 2x larger", "image 16:9", "picture 2.5", "image 300%", "image 50 %"),
    *("image 1024x768", "an image 2 megapixels large", "photo 35mm", "a photo 35 mm lens"),
    *("imagine 2 dogs", "reimage 2", "picture-perfect", "me@image2.com", "a 3D image"),
    *("the first picture frame", "my second imagery", "image 12345", "image 1,000"),
    *(
        "图书",
        "图书2本",
        "图案3",
        "图层2",
        "地图2",
        "截图3",
        "图4K",
        "图2.5D",
        "图16:9",
        "放大图2倍",
    ),
    *("像图一样", "如图一般", "试图一次", "第2张图纸", "第一张图层", "第2张", "2张图", "图个吉利"),
]


@pytest.mark.parametrize(("prompt", "numbers"), NAMED)
def test_a_name_is_found_with_its_numbers(prompt: str, numbers: list[int]) -> None:
    found = find_names(prompt, TWELVE)
    assert [number for name in found for number in name.numbers] == numbers
    assert all(prompt[name.start : name.end] == name.text for name in found)


@pytest.mark.parametrize("prompt", UNTOUCHED)
def test_what_only_looks_like_a_name_stays(prompt: str) -> None:
    assert not find_names(prompt, TWELVE)
    assert resolve_names(prompt, 1).text == prompt
    assert not resolve_names(prompt, 1).notices


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("the hat of @image2 on @Image 1", "the hat of Picture 2 on Picture 1"),
        ("把@图2的帽子戴到@图片1上", "把图2的帽子戴到图1上"),
        ("把@image2的帽子", "把Picture 2的帽子"),
        ("image 2, 图2, 第2张图, the second image", "image 2, 图2, 第2张图, the second image"),
    ],
)
def test_an_at_name_takes_the_form_that_the_model_sees(prompt: str, text: str) -> None:
    assert resolve_names(prompt, 2).text == text
    assert not resolve_names(prompt, 2).notices


@pytest.mark.parametrize("prompt", ["@image4", "@图4", "@image0", "@picture 99 and @image1"])
def test_an_at_name_of_no_picture_lists_what_is_connected(prompt: str) -> None:
    with pytest.raises(InputError, match="connected: @image1 to @image3"):
        resolve_names(prompt, 3)


def test_one_picture_is_listed_as_one() -> None:
    with pytest.raises(InputError, match="connected: @image1 only"):
        resolve_names("@image2", 1)


@pytest.mark.parametrize(
    "prompt", ["image 4", "images 3 and 4", "图4", "第四张图", "the fourth image"]
)
def test_a_plain_name_of_no_picture_is_a_notice(prompt: str) -> None:
    found = resolve_names(prompt, 3)
    assert found.text == prompt
    assert found.notices == ("the prompt speaks of image 4, connected: @image1 to @image3",)


@pytest.mark.parametrize("stray", ["@image", "@imagex", "@image2b", "@图"])
def test_an_at_name_that_is_none_is_a_notice(stray: str) -> None:
    assert check_names(f"take {stray} now", 3) == (
        f"{stray} names no picture, connected: @image1 to @image3",
    )


PLACES = [
    Placement(1, ""),
    Placement(2, "left part"),
    Placement(2, "right part"),
    Placement(3, "top part"),
    Placement(3, "bottom part"),
]
CHINESE_PLACES = [
    Placement(1, ""),
    Placement(2, "左侧部分"),
    Placement(2, "右侧部分"),
    Placement(3, "上部"),
    Placement(3, "下部"),
]


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("the hat of image 5", "the hat of image 3 (bottom part)"),
        ("@image2's hat on @image1", "@image2 (left part)'s hat on @image1"),
        ("Picture3", "Picture 2 (right part)"),
        ("the second image", "image 2 (left part)"),
        ("merge images 1, 2 and 5", "merge images 1, 2 (left part) and 3 (bottom part)"),
        ("pictures 2-4", "pictures 2 (left part), 2 (right part) and 3 (top part)"),
        ("photos 4", "photo 3 (top part)"),
        ("the last image", "image 3 (bottom part)"),
        ("image 4K, image 9", "image 4K, image 9"),
    ],
)
def test_names_follow_pictures_that_were_put_together(prompt: str, text: str) -> None:
    assert renumber(prompt, PLACES) == text


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("把图5放在图1上", "把图3（下部）放在图1上"),
        ("第二张图的帽子", "图2（左侧部分）的帽子"),
        ("@图3的人", "@图2（右侧部分）的人"),
        ("图2和3", "图2（左侧部分）、图2（右侧部分）"),
        ("把 image 4 的人", "把 image 3（上部） 的人"),
        ("看图书", "看图书"),
    ],
)
def test_names_in_a_chinese_prompt_follow_in_chinese(prompt: str, text: str) -> None:
    assert renumber(prompt, CHINESE_PLACES) == text


def test_the_renumbered_prompt_names_pictures_that_exist() -> None:
    prompt = renumber("@image5 beside @图2, and image 1", PLACES)
    assert [number for name in find_names(prompt, 3) for number in name.numbers] == [3, 2, 1]
    assert not resolve_names(prompt, 3).notices
