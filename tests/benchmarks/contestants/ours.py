"""The pack's own engine, at each acceleration."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmarks.task import Done, Precision, Task
from support.pack import load_pack

load_pack()

from firered_edit.pipeline.geometry import Custom  # noqa: E402 - needs the pack
from firered_edit.pipeline.images import Reference  # noqa: E402
from firered_edit.pipeline.local.engine import LocalEngine  # noqa: E402
from firered_edit.pipeline.request import Acceleration, EditRequest  # noqa: E402

if TYPE_CHECKING:
    from benchmarks.hosting import ComfyBenchHost, PlainBenchHost
    from firered_edit.pipeline.local.model import FireRedModel


class Ours:
    """``compiles`` overrides where kernels are compiled, as the engine's own parameter does."""

    def __init__(
        self,
        acceleration: Acceleration,
        model: FireRedModel,
        host: ComfyBenchHost | PlainBenchHost,
        precision: Precision = "bf16",
        compiles: bool | None = None,
    ) -> None:
        self.name = f"ours, {acceleration}"
        self.precision = precision
        self.whole = acceleration == "high"
        self._acceleration = acceleration
        self._model = model
        self._host = host
        self._engine = LocalEngine(model, host, compiles=compiles)

    @property
    def weight_bytes(self) -> int:
        model = self._model
        handles = (model.transformer, model.text_encoder, model.vae)
        return sum(bytes_of(handle.module) for handle in handles)

    def edit(self, task: Task, on_step: Callable[[], None]) -> Done:
        self._host.on_step = on_step
        result = self._engine.edit(request(task, self._acceleration))
        return Done(result.images[0], result.receipt.details["acceleration"])


def request(task: Task, acceleration: Acceleration) -> EditRequest:
    """``task`` in the words of the pack."""
    side = task.scale.side
    return EditRequest(
        prompt=task.prompt,
        references=tuple(Reference(pixels) for pixels in task.pictures),
        size=Custom(side, side),
        num_images=1,
        seed=task.number,
        num_inference_steps=task.steps,
        guidance_scale=task.guidance,
        negative_prompt="",
        acceleration=acceleration,
        working_megapixels=0,
    )


def bytes_of(module: Any) -> int:
    """Bytes of all weights, packed ones as they lie."""
    return sum(tensor.nbytes for tensor in module.state_dict().values())
