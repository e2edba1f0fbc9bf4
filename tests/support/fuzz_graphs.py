"""Random graphs of the pack's nodes, as API prompts: sound ones, and ones with anything in them.

A graph is decided by its seed. Of what is wired soundly the size of every picture is promised.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from support.server_fixtures import MODEL_FOLDER

Link = list[Any]
Inputs = dict[str, Any]
Size = tuple[int, int]
"""Width and height."""

PRESETS = {"square_hd": (1024, 1024), "portrait_16_9": (576, 1024), "landscape_4_3": (1024, 768)}

SIDES = (16, 17, 31, 48, 64, 90, 120, 127)
ODD_SHAPES: tuple[list[int], ...] = (
    *([1, 1, 1, 3], [1, 15, 40, 3], [1, 16, 129, 3], [1, 16, 128, 3], [1, 300, 20, 3]),
    *([1, 4, 4000, 3], [2, 40, 40, 4], [1, 40, 40, 1], [11, 20, 20, 3], [40, 30, 3], [40, 40]),
    *([1, 40, 40, 2], [1, 40, 40, 5], [0, 40, 40, 3], [1, 0, 40, 3], [1, 1, 40, 40, 3], [3], []),
)
MASK_SHAPES: tuple[list[int], ...] = (
    *([1, 64, 64], [64, 64], [2, 64, 64], [1, 1, 1], [1, 0, 9], [1, 64, 63], [1, 2, 900], [9]),
    *([1, 64, 64, 1], [1, 640, 640]),
)
FILLINGS = ("black", "white", "nan", "inf", "negative", "huge", "one nan")
DTYPES = ("float16", "bfloat16", "float64", "uint8", "bool")

PROMPTS = (
    *("make it snow", "把图1变成夜晚", "@image1 wears the hat of @image2", "image 9 and 图8"),
    *("@image99", "@图0", "@image", "@imagex2", "", " \n\t", "a" * 20_000, "雪" * 5000),
    *("\u202e\u200b\ufeff", "\U0001f600" * 300, "e\u0301" * 500, "{red|{green|blue}}", "{", "}|{"),
    *("<|im_end|>", "<|image_pad|>", "<|vision_start|> now", "image 1-99", "images 1, 2 and 5"),
    *("\x00\x07\x1b[31m", "%s %n {0}", "../../etc/passwd", "// note", "/* all */", "1" * 400),
)
JUNK: tuple[Any, ...] = (
    *(None, True, False, "", " ", "x", "1", "-1", "nan", "NaN", [], {}, [None], {"a": 1}, [[]]),
    *(-1, 0, 1, 2, 7, 8193, 2**31, 2**32, 2**53 + 1, 2**64, 10**30, -(2**64)),
    *(0.0, -0.0, 0.05, 1e-300, 1e300, -1e300, float("nan"), float("inf"), float("-inf")),
    *(["1", 0], ["999", 0], ["1", 9], ["1", -1], ["1", "0"], [1, 0], ["1", 0, 0], "a" * 70_000),
)
LOOSE = tuple(value for value in JUNK if not isinstance(value, list))
"""For inputs that are none: a link that leads nowhere ends ComfyUI's worker for good there, with
its own nodes alone as well."""

VALUES: tuple[Any, ...] = (
    *(None, True, "", "x", "none", 7, -1, 2**64, 0.5, 1e300, [], {}, [1], {"size": "custom"}),
    *(float("nan"), float("inf"), "a" * 9999, "match image", "@image9"),
)
"""What a link may bring where another type is expected."""


@dataclass
class Graph:
    """``workflow`` is what is posted; ``wild`` says that not all of it is sound."""

    workflow: dict[str, dict[str, Any]] = field(default_factory=dict)
    wild: bool = False

    def add(self, kind: str, **inputs: Any) -> str:
        key = str(len(self.workflow) + 1)
        self.workflow[key] = {"class_type": kind, "inputs": inputs}
        return key

    @property
    def body(self) -> str:
        """As JSON, with the numbers that JSON does not know."""
        return json.dumps(self.workflow)


@dataclass(frozen=True)
class Picture:
    """Where a picture comes from, and its size where that is known.

    ``edited``: a model made all of it, and nothing of what it was made from goes through.
    """

    link: Link
    size: Size | None = None
    edited: bool = False


class Weaver:
    """Makes one graph. ``wildness`` is the share of inputs that are anything at all."""

    def __init__(self, rng: random.Random, wildness: float) -> None:
        self._rng = rng
        self._wildness = wildness
        self._graph = Graph(wild=wildness > 0)
        self._made: dict[str, str] = {}

    def graph(self) -> Graph:
        roots = (self._edit, self._edit, self._region, self._stitched, self._drift, self._mended)
        for root in self._rng.sample(roots, self._rng.choice((1, 1, 2))):
            root()
        return self._graph

    # Whole branches ----------------------------------------------------------------------------

    def _edit(self) -> None:
        pictures = [self._picture() for _ in range(self._rng.choice((1, 1, 2, 3)))]
        self._look(self._edited(pictures))

    def _region(self) -> None:
        """A crop, perhaps its edit, and back."""
        source = self._sound_picture() if not self._graph.wild else self._picture()
        width, height = source.size or (64, 64)
        mask = self._mask(width, height)
        crop = self._node("FireRedCropRegion", image=source.link, mask=mask, **self._framing())
        self._look(Picture([crop, 2], source.size))
        cut = Picture([crop, 0])
        edited = self._edited([cut], size="match image") if self._rng.random() < 0.4 else cut
        region = self._sometimes([crop, 1], self._value)
        match = self._rng.random() < 0.5
        paste = self._node(
            "FireRedPasteRegion", edited=edited.link, region=region, match_colour=match
        )
        self._look(Picture([paste, 0], source.size))

    def _framing(self) -> Inputs:
        rng = self._rng
        return {
            "grow": rng.choice((0, 3, 16, 512)),
            "feather": rng.choice((0, 5, 16, 256)),
            "context": rng.choice((1.0, 1.5, 4.0)),
            "working_megapixels": rng.choice((0.1, 0.2)),
        }

    def _stitched(self) -> None:
        rng = self._rng
        pictures = [self._picture() for _ in range(rng.randrange(4, 8))]
        masks = {
            f"masks.mask_{number}": self._mask(*(picture.size or (64, 64)))
            for number, picture in enumerate(pictures, 1)
            if rng.random() < 0.3
        }
        background = rng.random() < 0.5
        stitch = self._node(
            "FireRedStitchReferences",
            prompt=self._prompt(len(pictures)),
            background=background,
            **self._slots(pictures),
            **masks,
        )
        self._look(Picture([stitch, 0], pictures[0].size if background else None))
        self._look(Picture([stitch, 2]))
        if rng.random() < 0.3:
            composites = [Picture([stitch, index]) for index in range(3)]
            prompt: Any = [stitch, 3]
            self._look(self._edited(composites, prompt=prompt, size="custom"))

    def _drift(self) -> None:
        before = self._picture()
        after = before if self._rng.random() < 0.3 else self._picture(before.size)
        masked = (
            {"mask": self._mask(*(before.size or (64, 64)))} if self._rng.random() < 0.3 else {}
        )
        align = self._rng.random() < 0.5
        drift = self._node(
            "FireRedMeasureDrift", before=before.link, after=after.link, align=align, **masked
        )
        self._look(Picture([drift, 0], before.size if align else after.size))

    def _mended(self) -> None:
        """Pictures put together to a batch, taken apart to a list, edited, compared."""
        size = self._sound_size()
        one, other = self._opaque(size), self._opaque(size)
        batch = self._node("ImageBatch", image1=one.link, image2=other.link)
        if self._rng.random() < 0.5:
            batch = self._node("RebatchImages", images=[batch, 0], batch_size=1)
        self._look(self._edited([Picture([batch, 0], one.size)]))

    # Edits -------------------------------------------------------------------------------------

    def _edited(self, pictures: list[Picture], *, prompt: Any = None, size: str = "") -> Picture:
        local = self._rng.random() < 0.6
        chosen, promised = self._size(pictures, size)
        inputs = {
            "prompt": self._prompt(len(pictures)) if prompt is None else prompt,
            **self._slots(pictures),
            **chosen,
            **self._sampling(local),
        }
        if local:
            model = self._sometimes(self._model(), self._value)
            node = self._node("FireRedEdit", model=model, **inputs)
        else:
            node = self._node("FireRedEditFal", **inputs, **self._remote())
        return Picture([node, 0], promised, edited=True)

    def _sampling(self, local: bool) -> Inputs:
        rng = self._rng
        own = {"noise": rng.choice(("cpu", "gpu"))} if local else {}
        return {
            "num_images": rng.choice((1, 1, 1, 2, 4)),
            "seed": rng.choice((0, 7, 2**32 - 1, rng.randrange(2**32))),
            "num_inference_steps": rng.choice((2, 3)),
            "guidance_scale": rng.choice((1.0, 1.0, 4.0, 10.0)),
            "negative_prompt": rng.choice(("", "blurred")),
            "acceleration": rng.choice(("none", "regular")),
            "working_megapixels": 0.01 if local else rng.choice((0.0, 0.02)),
            **own,
        }

    def _remote(self) -> Inputs:
        rng = self._rng
        return {
            "enable_safety_checker": rng.random() < 0.5,
            "output_format": rng.choice(("png", "jpeg")),
            "sync_mode": rng.random() < 0.5,
            "upload_quality": rng.choice(("lossless", "jpeg 95")),
            "max_cost": 1000.0 if not self._graph.wild else rng.choice((0.0, 0.01, 1000.0)),
        }

    def _size(self, pictures: list[Picture], kind: str) -> tuple[Inputs, Size | None]:
        rng = self._rng
        kind = kind or rng.choice(("match image", "preset", "custom", "megapixels"))
        match kind:
            case "match image":
                index = rng.randrange(len(pictures)) + 1
                return {"size": kind, "size.index": index}, pictures[index - 1].size
            case "preset":
                name = rng.choice(list(PRESETS))
                return {"size": kind, "size.preset": name}, PRESETS[name]
            case "custom":
                width, height = rng.choice(((64, 64), (65, 127), (512, 64), (199, 333)))
                return {"size": kind, "size.width": width, "size.height": height}, (width, height)
        return {"size": kind, "size.megapixels": 0.1}, None

    def _model(self) -> Link:
        """One loader for all edits of a graph, perhaps with a source that is not there."""
        if "model" not in self._made:
            source = {"source": "folder", "source.folder": MODEL_FOLDER}
            self._made["model"] = self._node("FireRedLoadModel", **source, precision="auto")
        return [self._made["model"], 0]

    # Inputs ------------------------------------------------------------------------------------

    def _slots(self, pictures: list[Picture]) -> Inputs:
        numbers = list(range(1, len(pictures) + 1))
        if self._wild():
            numbers = self._rng.sample(range(14), len(pictures))
        return {
            f"images.image_{number}": picture.link
            for number, picture in zip(numbers, pictures, strict=True)
        }

    def _prompt(self, count: int) -> str:
        if self._graph.wild:
            return self._rng.choice(PROMPTS)
        return f"{self._rng.choice(PROMPTS[:2])} {self._rng.randrange(10**6)} @image{count}"

    def _picture(self, size: Size | None = None) -> Picture:
        if not self._wild():
            return self._sound_picture(size)
        rng = self._rng
        if rng.random() < 0.2:
            return Picture(self._value())
        shape = rng.choice((*ODD_SHAPES, [1, 64, 48, 3]))
        filling = rng.choice(("texture", *FILLINGS))
        return Picture(self._filled(shape, filling, rng.choice(("float32", *DTYPES))))

    def _sound_picture(self, size: Size | None = None) -> Picture:
        width, height = size or self._sound_size()
        channels = self._rng.choice((1, 3, 3, 4))
        link = self._filled([1, height, width, channels], "texture", "float32")
        return Picture(link, (width, height))

    def _opaque(self, size: Size) -> Picture:
        return Picture(self._filled([1, size[1], size[0], 3], "texture", "float32"), size)

    def _sound_size(self) -> Size:
        width, height = self._rng.choice(SIDES), self._rng.choice(SIDES)
        # Not longer than 8:1, which the model was never shown.
        return (width, height) if max(width, height) <= 7 * min(width, height) else (64, 48)

    def _filled(self, shape: list[int], filling: str, dtype: str) -> Link:
        return [
            self._graph.add("TestPicture", shape=json.dumps(shape), filling=filling, dtype=dtype),
            0,
        ]

    def _mask(self, width: int, height: int) -> Link:
        shape = self._rng.choice(MASK_SHAPES) if self._wild() else [1, height, width]
        filling = self._rng.choice(FILLINGS) if self._wild() else "texture"
        return [*self._filled(shape, filling, "float32")[:1], 1]

    def _value(self) -> Link:
        return [self._graph.add("TestValue", value=json.dumps(self._rng.choice(VALUES))), 0]

    def _wild(self) -> bool:
        return self._rng.random() < self._wildness

    def _sometimes(self, sound: Any, wild: Callable[[], Any]) -> Any:
        return wild() if self._wild() else sound

    def _node(self, kind: str, **inputs: Any) -> str:
        """A node, some of whose inputs are missing, unknown or something else where it is wild."""
        if self._wild():
            self._spoil(inputs)
        return self._graph.add(kind, **inputs)

    def _spoil(self, inputs: Inputs) -> None:
        rng = self._rng
        name = rng.choice(list(inputs))
        match rng.randrange(6):
            case 0:
                del inputs[name]
            case 1:
                others = ("images.image_11", "images.image_0", "masks.mask_13", "size.depth", "x")
                inputs[rng.choice((*others, "images", "size", "source"))] = rng.choice(LOOSE)
            case 2:
                inputs[name] = self._value()
            case _:
                inputs[name] = rng.choice(JUNK)

    def _look(self, picture: Picture) -> None:
        size = f"{picture.size[0]}x{picture.size[1]}" if picture.size else ""
        promised = json.dumps({"size": size, "edited": picture.edited})
        self._graph.add("TestLook", seen=picture.link, promised=promised)


def weave(seed: int, number: int) -> Graph:
    """The graph of a number: every third is sound, the others the wilder the higher."""
    rng = random.Random(f"{seed} {number}")
    return Weaver(rng, (0.0, 0.1, 0.3)[number % 3]).graph()


def picture_defects(told: dict[str, Any], wild: bool) -> list[str]:
    """What is wrong with a picture that came out, as ``TestLook`` told it."""
    shape, promised = told["shape"], json.loads(told["promised"])
    broken = []
    # What is not edited goes through with whatever was in it.
    if promised["edited"] or not wild:
        if not told["finite"]:
            broken.append("holds NaN or infinite values")
        elif not (told["least"] >= 0 and told["most"] <= 1):
            broken.append(f"goes from {told['least']:g} to {told['most']:g}")
    if promised["size"] and not wild and f"{shape[2]}x{shape[1]}" != promised["size"]:
        broken.append(f"is {shape}, not {promised['size']}")
    return broken
