"""The example workflows and blueprints that the pack ships, as `make_examples.py` draws them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from support.graphs import Blueprint, Example, Group, Model, Node, Place

_HUB = "https://huggingface.co"
_TEAM = f"{_HUB}/FireRedTeam"

TRANSFORMER = Model(
    "FireRed-Image-Edit-1.1-transformer.safetensors",
    f"{_TEAM}/FireRed-Image-Edit-1.1-ComfyUI/resolve/main/"
    "FireRed-Image-Edit-1.1-transformer.safetensors",
    "diffusion_models",
)
TEXT_ENCODER = Model(
    "qwen_2.5_vl_7b_fp8_scaled.safetensors",
    f"{_HUB}/Comfy-Org/HunyuanVideo_1.5_repackaged/resolve/main/split_files/text_encoders/"
    "qwen_2.5_vl_7b_fp8_scaled.safetensors",
    "text_encoders",
)
VAE = Model(
    "qwen_image_vae.safetensors",
    f"{_TEAM}/FireRed-Image-Edit-1.0-ComfyUI/resolve/main/qwen_image_vae.safetensors",
    "vae",
)
LIGHTNING = Model(
    "FireRed-Image-Edit-1.0-Lightning-8steps-v1.0.safetensors",
    f"{_TEAM}/FireRed-Image-Edit-1.0-ComfyUI/resolve/main/"
    "FireRed-Image-Edit-1.0-Lightning-8steps-v1.0.safetensors",
    "loras",
)
FILES = (TRANSFORMER, TEXT_ENCODER, VAE)

PICTURE = "example.png"
"""Lies in every ComfyUI's input folder."""

BATCH_FOLDER = "firered_batch"

_SEED = 49
_LEFT, _MIDDLE, _RIGHT = 0, 420, 920
_NARROW, _WIDE, _SHOWN = 340, 420, 400
# Room for what Nodes 2.0 draws larger.
_BELOW_MODEL = 300

_EVENING = "Turn the scene into a warm evening with soft golden light. Keep everything else."


def _photo(key: str, at: Place, title: str | None = None) -> Node:
    return Node(key, "LoadImage", at, (_NARROW, 340), {"image": PICTURE}, title=title)


def _model(at: Place) -> Node:
    values = {
        "source": "files",
        "source.diffusion_model": TRANSFORMER.name,
        "source.text_encoder": TEXT_ENCODER.name,
        "source.vae": VAE.name,
        "precision": "auto",
    }
    return Node("model", "FireRedLoadModel", at, (_NARROW, 154), values, models=FILES)


def _lightning(at: Place) -> Node:
    values = {"lora": LIGHTNING.name, "strength": 1.0, "use_its_schedule": True}
    links = {"model": "model"}
    return Node("lora", "FireRedLoadLora", at, (_NARROW, 106), values, links, (LIGHTNING,))


def _edit(kind: str, at: Place, links: Mapping[str, str], key: str = "edit", **values: Any) -> Node:
    """An edit node whose seed stays; ``values`` are in the order of its fields."""
    height = 422 if kind == "FireRedEdit" else 518
    fixed = {"seed": _SEED, "control_after_generate": "fixed"}
    return Node(key, kind, at, (_WIDE, height), {**values, **fixed}, links)


def _save(
    prefix: str,
    at: Place,
    source: str,
    height: int = 400,
    key: str = "save",
    width: int = _SHOWN,
) -> Node:
    links = {"images": source}
    return Node(key, "SaveImage", at, (width, height), {"filename_prefix": prefix}, links)


def _text(at: Place, source: str, height: int = 250) -> Node:
    links = {"source": source}
    return Node("receipt", "PreviewAny", at, (_SHOWN, height), {}, links, title="Receipt")


def _note(at: Place, size: Place, text: str) -> Node:
    colors = {"color": "#432", "bgcolor": "#653"}
    return Node("note", "MarkdownNote", at, size, {"text": text}, title="Read me", **colors)


def _links(*models: Model) -> str:
    return "\n".join(f"- **models/{one.directory}**: [{one.name}]({one.url})" for one in models)


_FILES_NOTE = f"""## Model files

When the workflow opens, ComfyUI offers what is missing for download. The files go here:

{_links(*FILES)}
"""

_KEY_NOTE = """## A key for fal

Get a key at [fal.ai/dashboard/keys](https://fal.ai/dashboard/keys) and enter it in **Settings > FireRed > fal**, or set the environment variable **FAL_KEY** before ComfyUI starts. Never write it into a node.

fal bills **$0.0325 per megapixel** of result. *max_cost*, among the advanced inputs, limits what one run may cost.
"""  # noqa: E501 - a paragraph of a note is one line

_SECOND_PICTURE = """## Add a second picture

Place another *Load Image* and connect it to the next free slot, **image_2**. In the prompt, name it **@image2**: "Dress @image1 in the coat of @image2."
"""  # noqa: E501


EDIT_LOCAL = Example(
    "firered_edit_local",
    (
        _photo("photo", (_LEFT, _BELOW_MODEL)),
        _model((_LEFT, 0)),
        _edit(
            "FireRedEdit",
            (_MIDDLE, 0),
            {"model": "model", "images.image_1": "photo"},
            prompt=_EVENING,
        ),
        _save("firered_local", (_RIGHT, 0), "edit.images", 440),
        _text((_RIGHT, 520), "edit.receipt", 400),
        _note(
            (_MIDDLE, 580),
            (_WIDE, 400),
            f"""{_FILES_NOTE}
## Your own picture

Choose it in *Load Image* and write what to change. The result has its width and height. **num_inference_steps** 40 and **guidance_scale** 4 are FireRed's own; another **seed** gives another result.

{_SECOND_PICTURE}""",  # noqa: E501
        ),
    ),
)

EDIT_FAL = Example(
    "firered_edit_fal",
    (
        _photo("photo", (_LEFT, 0)),
        _edit("FireRedEditFal", (_MIDDLE, 0), {"images.image_1": "photo"}, prompt=_EVENING),
        _save("firered_fal", (_RIGHT, 0), "edit.images", 440),
        _text((_RIGHT, 520), "edit.receipt", 260),
        _note(
            (_LEFT, 420),
            (_NARROW, 460),
            f"""{_KEY_NOTE}
## Your own picture

Choose it in *Load Image* and write what to change. The result has its width and height; another **seed** gives another result and is billed anew.

{_SECOND_PICTURE}""",  # noqa: E501
        ),
    ),
)

TRY_ON = Example(
    "firered_try_on",
    (
        _photo("person", (_LEFT, _BELOW_MODEL), "Person (image 1)"),
        _photo("garment", (_LEFT, _BELOW_MODEL + 400), "Garment (image 2)"),
        _model((_LEFT, 0)),
        _edit(
            "FireRedEdit",
            (_MIDDLE, 0),
            {"model": "model", "images.image_1": "person", "images.image_2": "garment"},
            prompt="Dress the person in @image1 in the garment of @image2. Keep face, hair, "
            "pose and background.",
        ),
        _save("firered_try_on", (_RIGHT, 0), "edit.images", 600),
        _note(
            (_MIDDLE, 580),
            (_WIDE, 440),
            f"""{_FILES_NOTE}
## Your own pictures

*Load Image* holds ComfyUI's example twice: choose the person above and the garment below. A garment photographed flat or on a hanger, alone in its picture, is copied best.

- **prompt**: @image1 and @image2 name the pictures; say what is to stay.
- **size**: match image 1, so the result has the size of the person's picture.
- **seed**: try three or four before you change the words.

A third picture, shoes or a bag, goes to **image_3**. For more use *FireRed Stitch References*.
""",  # noqa: E501
        ),
    ),
)

MAKEUP = Example(
    "firered_makeup",
    (
        _photo("portrait", (_MIDDLE, 240), "Portrait"),
        _model((_LEFT, 0)),
        _lightning((_MIDDLE, 0)),
        _edit(
            "FireRedEdit",
            (840, 0),
            {"model": "lora", "images.image_1": "portrait"},
            prompt="Apply an evening makeup: soft smoky eyes, coral lips, a little blush on the "
            "cheeks. Keep face, skin, hair, light and background.",
            num_inference_steps=8,
            guidance_scale=1.0,
        ),
        _save("firered_makeup", (1340, 0), "edit.images", 500),
        _note(
            (_LEFT, _BELOW_MODEL),
            (_NARROW, 480),
            f"""{_FILES_NOTE}{_links(LIGHTNING)}

## Your own portrait

Choose it in *Load Image*. The Lightning LoRA needs 8 steps where the model alone needs 40 with guidance.

- **use_its_schedule** on: the LoRA sets steps and guidance, whatever the edit node says.
- **strength** 1.0 is what the LoRA was made for.
- **prompt**: name colour and place of each product; say what is to stay.

For the model's full quality bypass *FireRed Load LoRA* (Ctrl+B) and set 40 steps and guidance 4.
""",  # noqa: E501
        ),
    ),
)

REGION = Example(
    "firered_region",
    (
        _photo("photo", (_LEFT, 0), "Photo with a painted mask"),
        Node(
            "crop",
            "FireRedCropRegion",
            (400, 0),
            (_NARROW, 174),
            {"grow": 16, "feather": 16, "context": 1.5, "working_megapixels": 1.0},
            {"image": "photo.IMAGE", "mask": "photo.MASK"},
        ),
        _edit(
            "FireRedEditFal",
            (800, 200),
            {"images.image_1": "crop.crop"},
            prompt="Replace it with a bunch of red roses in the same light.",
        ),
        Node(
            "paste",
            "FireRedPasteRegion",
            (1280, 0),
            (_SHOWN, 80),
            {"match_colour": True},
            {"edited": "edit.images", "region": "crop.region"},
        ),
        _save("firered_region", (1280, 200), "paste.image", 518),
        _note(
            (_LEFT, 440),
            (740, 420),
            f"""## Paint the mask first

Choose your photo in *Load Image*, right-click the node, **Open in MaskEditor**, and paint over what may change. Without a mask the run ends with "The mask is empty."

## A photo of 12 megapixels

Only the crop around the mask is edited, at one megapixel, and put back: outside the mask every pixel stays as it was. On fal that costs $0.0325, where the whole photo would cost $0.39. Keep the mask small: in a region larger than a megapixel fine detail is lost, and *FireRed Crop Region* says how much.

- **context** 1.5: how much around the mask the model sees. More fits in better, less keeps more detail.
- **grow** and **feather**: 32 or more for soft edges in large photos.
- **match_colour**: turn it off where the edit is meant to change the light.

{_KEY_NOTE}""",  # noqa: E501
        ),
    ),
)

_ELEMENTS = ("Person", "Hat", "Glasses", "Jacket", "Trousers", "Shoes", "Bag")


def _element(number: int) -> Node:
    row, column = divmod(number - 1, 3)
    at, size = (225 * column, 380 * row), (205, 320)
    title = f"{_ELEMENTS[number - 1]} (image {number})"
    return Node(f"image_{number}", "LoadImage", at, size, {"image": PICTURE}, title=title)


FUSION = Example(
    "firered_fusion",
    (
        *map(_element, range(1, 8)),
        Node(
            "stitch",
            "FireRedStitchReferences",
            (720, 0),
            (360, 480),
            {
                "prompt": "Dress the person in @image1: the hat of @image2, the glasses of "
                "@image3, the jacket of @image4, the trousers of @image5, the shoes of @image6 "
                "and the bag of @image7. Keep face, pose and background.",
                "background": True,
            },
            {f"images.image_{number}": f"image_{number}" for number in range(1, 8)},
        ),
        _model((720, 600)),
        _edit(
            "FireRedEdit",
            (1140, 0),
            {
                "model": "model",
                **{f"images.image_{part}": f"stitch.composite_{part}" for part in (1, 2, 3)},
                "prompt": "stitch.prompt",
            },
        ),
        Node(
            "seen",
            "PreviewImage",
            (1620, 600),
            (300, 480),
            {},
            {"images": "stitch.composite_2"},
            title="Composite 2, as the model sees it",
        ),
        _save("firered_fusion", (1620, 0), "edit.images", 480, width=300),
        _note(
            (1140, 600),
            (_WIDE, 480),
            f"""## Your own pictures

All seven *Load Image* nodes hold ComfyUI's example: choose the person in the first and one thing in each of the others, each alone in its picture. Fewer are fine: bypass a node (Ctrl+B) and take its name out of the prompt; four is the least.

- **background** on: image 1 stays alone and in its own size.
- **prompt** is written in *FireRed Stitch References*, with @image1 to @image7; the edit node gets it with the new names.
- **masks**: mask_3 marks the part of image 3 that counts.

{_FILES_NOTE}""",  # noqa: E501
        ),
    ),
    (Group("Seven pictures", (-20, -90, 695, 1190)),),
)

BATCH = Example(
    "firered_batch",
    (
        Node(
            "photos",
            "LoadImageDataSetFromFolder",
            (_LEFT, 0),
            (_NARROW, 60),
            {"folder": BATCH_FOLDER},
        ),
        _edit(
            "FireRedEditFal",
            (_MIDDLE, 0),
            {"images.image_1": "photos"},
            prompt="Replace the background with a plain light grey studio backdrop and soft, "
            "even light. Keep the object as it is.",
            size="megapixels",
            **{"size.megapixels": 0.9},
        ),
        _save("firered_batch/edit", (_RIGHT, 0), "edit.images", 300),
        _text((_RIGHT, 380), "edit.receipt", 220),
        _note(
            (_LEFT, 160),
            (_NARROW, 500),
            f"""## Your own pictures

1. Make a folder **{BATCH_FOLDER}** in ComfyUI's **input** folder and put your pictures there, twenty for example.
2. Press **R** and choose it in *Load Image (from Folder)*.
3. Run once. Up to 16 edits are at fal at the same time; the results keep the order.

- **size** megapixels 0.9: every result keeps the aspect of its picture and costs $0.0325 at most, twenty $0.65. *match image* gives each its own size; a photo of 12 megapixels then costs $0.39.
- **max_cost**, among the advanced inputs, bounds the whole run: raise it for more pictures.
- **seed** stays fixed, so that a second run takes what is finished from disk and pays only for what is new.

{_KEY_NOTE}""",  # noqa: E501
        ),
    ),
)

COMPARE = Example(
    "firered_local_and_fal",
    (
        _photo("photo", (_LEFT, _BELOW_MODEL + 200)),
        _model((_LEFT, 0)),
        Node(
            "prompt",
            "PrimitiveStringMultiline",
            (_LEFT, _BELOW_MODEL),
            (_NARROW, 130),
            {"value": _EVENING},
            title="Prompt of both",
        ),
        _edit(
            "FireRedEdit",
            (_MIDDLE, 0),
            {"model": "model", "images.image_1": "photo", "prompt": "prompt"},
            key="local",
        ),
        _edit(
            "FireRedEditFal",
            (_MIDDLE, 580),
            {"images.image_1": "photo", "prompt": "prompt"},
            key="fal",
            num_inference_steps=40,
            acceleration="none",
        ),
        Node(
            "compare",
            "ImageCompare",
            (_RIGHT, 0),
            (_SHOWN, 420),
            {},
            {"image_a": "local.images", "image_b": "fal.images"},
        ),
        _save("firered_local", (_RIGHT, 580), "local.images", 240, "save_local"),
        _save("firered_fal", (_RIGHT, 900), "fal.images", 240, "save_fal"),
        _note(
            (1380, 0),
            (_SHOWN, 620),
            f"""## Local and fal side by side

One picture and one prompt go to both engines. *Compare Images* shows the local result on one side of the slider and fal's on the other. It works in **Nodes 2.0** only (Settings > Nodes 2.0); in the classic canvas look at the two *Save Image* nodes.

Both have 40 steps, guidance 4 and the same seed. The seed starts different noise on the two, so the pictures differ: compare light, faces and how well the prompt was followed.

{_FILES_NOTE}
{_KEY_NOTE}""",  # noqa: E501
        ),
    ),
)

EXAMPLES = (EDIT_LOCAL, EDIT_FAL, TRY_ON, MAKEUP, REGION, FUSION, BATCH, COMPARE)


_ALIASES = ("firered", "image edit", "instruction edit", "改图")
_IMAGES = {
    "image": "edit.images.image_1",
    "image2": "edit.images.image_2",
    "image3": "edit.images.image_3",
}
_EDIT_OUTPUTS = {"images": "edit.images", "receipt": "edit.receipt"}

BLUEPRINT_LOCAL = Blueprint(
    name="FireRed Edit (local)",
    description="Edit a picture by instruction on your own GPU, with up to two more as references. "
    "The result has the size of the first. lightning adds the LoRA for edits in 8 steps.",
    aliases=_ALIASES,
    nodes=(
        _model((0, 0)),
        _lightning((_MIDDLE, 0)),
        Node(
            "switch",
            "ComfySwitchNode",
            (840, 0),
            (270, 78),
            {"switch": False},
            {"on_false": "model", "on_true": "lora"},
        ),
        _edit("FireRedEdit", (1190, 0), {"model": "switch"}),
    ),
    inputs={
        **_IMAGES,
        "prompt": "edit.prompt",
        "lightning": "switch.switch",
        "num_images": "edit.num_images",
        "seed": "edit.seed",
        "diffusion_model": "model.source.diffusion_model",
        "text_encoder": "model.source.text_encoder",
        "vae": "model.source.vae",
        "lora": "lora.lora",
    },
    outputs=_EDIT_OUTPUTS,
    ends={"left": (-240, 0), "right": (1690, 0)},
)

BLUEPRINT_FAL = Blueprint(
    name="FireRed Edit (fal)",
    description="Edit a picture by instruction on fal.ai, with up to two more as references. The "
    "result has the size of the first; max_cost limits what a run may cost.",
    aliases=_ALIASES,
    nodes=(_edit("FireRedEditFal", (0, 0), {}),),
    inputs={
        **_IMAGES,
        "prompt": "edit.prompt",
        "num_images": "edit.num_images",
        "seed": "edit.seed",
        "max_cost": "edit.max_cost",
    },
    outputs=_EDIT_OUTPUTS,
    ends={"left": (-240, 0), "right": (500, 0)},
)

BLUEPRINT_REGION = Blueprint(
    name="FireRed Region Edit",
    description="Edit what a mask marks, at one megapixel on fal.ai, and leave every pixel outside "
    "of it as it was.",
    aliases=(*_ALIASES, "inpaint", "masked edit", "局部编辑"),
    nodes=(
        Node("crop", "FireRedCropRegion", (0, 0), (_NARROW, 174)),
        _edit("FireRedEditFal", (_MIDDLE, 0), {"images.image_1": "crop.crop"}),
        Node(
            "paste",
            "FireRedPasteRegion",
            (_RIGHT, 0),
            (_SHOWN, 80),
            {},
            {"edited": "edit.images", "region": "crop.region"},
        ),
    ),
    inputs={
        "image": "crop.image",
        "mask": "crop.mask",
        "image2": "edit.images.image_2",
        "prompt": "edit.prompt",
        "seed": "edit.seed",
        "grow": "crop.grow",
        "feather": "crop.feather",
        "context": "crop.context",
        "match_colour": "paste.match_colour",
        "max_cost": "edit.max_cost",
    },
    outputs={"image": "paste.image", "receipt": "edit.receipt"},
    ends={"left": (-240, 0), "right": (1400, 0)},
)

BLUEPRINTS = (BLUEPRINT_LOCAL, BLUEPRINT_FAL, BLUEPRINT_REGION)
