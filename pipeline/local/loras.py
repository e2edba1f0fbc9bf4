"""LoRAs on a loaded model, and the schedule that a distilled one was made for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..checks import check_range
from ..errors import InputError
from ..host import LocalHost
from ..request import STEPS
from .model import LoraUse, OwnSchedule

if TYPE_CHECKING:
    from .model import FireRedModel

STRENGTH = (-2.0, 2.0)

LIGHTNING_STEPS = 8
LIGHTNING_SHIFT = 3.0
"""All noise levels are shifted as for the one canvas size the distillation ran at."""

_LIGHTNING = re.compile(r"lightning", re.IGNORECASE)
_STEPS = re.compile(r"(\d+)[-_ ]?steps?", re.IGNORECASE)


def use_lora(
    model: FireRedModel, file: Path, strength: float, use_its_schedule: bool, host: LocalHost
) -> FireRedModel:
    """``model`` with the LoRA in ``file`` at ``strength``; ``model`` itself stays as it is.

    A Lightning file brings its schedule along unless ``use_its_schedule`` is false. Raises
    ``InputError`` where no layer of the file belongs to the model.
    """
    check_range("strength", strength, STRENGTH)
    found = host.add_lora((model.transformer, model.modulation), file, strength)
    if not found.matched:
        raise InputError(
            f"{file.name} has {found.total} layers, and none of them is FireRed's.",
            "Choose a LoRA of FireRed-Image-Edit or Qwen-Image-Edit.",
        )
    use = LoraUse(file.stem, strength, found.matched, found.total)
    own = lightning_schedule(file.stem) if use_its_schedule and strength > 0 else None
    host.say("\n".join([str(use), *([str(own)] if own else [])]))
    return model.with_lora(found.handles, use, own)


def lightning_schedule(name: str) -> OwnSchedule | None:
    """The schedule of a Lightning LoRA, which its file name gives away; None for any other."""
    if not _LIGHTNING.search(name):
        return None
    found = _STEPS.search(name)
    steps = int(found[1]) if found else LIGHTNING_STEPS
    if not STEPS[0] <= steps <= STEPS[1]:
        steps = LIGHTNING_STEPS  # a count of training steps, as trainers put into names
    return OwnSchedule(name, steps, guidance_scale=1.0, shift=LIGHTNING_SHIFT)
