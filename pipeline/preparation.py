"""The checks and plans both engines make before anything is uploaded or loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from .canvas import place
from .geometry import Plan, plan
from .images import Pixels, alpha_notices
from .prompts import resolve_names
from .request import EditRequest, Receipt


@dataclass(frozen=True)
class Prepared:
    """A request that passed every check. ``prompt`` is as the model reads it."""

    request: EditRequest
    prompt: str
    plan: Plan
    notices: tuple[str, ...]

    def placed_references(self) -> list[Pixels]:
        """Every reference laid on its grid, (H, W, 3) uint8 with sides a multiple of 16."""
        pairs = zip(self.request.references, self.plan.fits, strict=True)
        return [place(reference.pixels, fit) for reference, fit in pairs]

    def summary(self) -> str:
        """The numbering, the sizes and the notices: what the artist reads on the node."""
        numbered = [f"@image{number} {size}" for number, size in enumerate(self._sizes(), 1)]
        lines = [" · ".join(numbered), f"canvas {self.plan.canvas} → {self.plan.output}"]
        return "\n".join([*lines, *self.notices])

    def _sizes(self) -> list[str]:
        return [str(reference.size) for reference in self.request.references]

    def receipt(self, engine: str, model: str, seeds: list[int]) -> Receipt:
        """A receipt of everything known before the edit runs."""
        request = self.request
        return Receipt(
            engine=engine,
            model=model,
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            seeds=seeds,
            num_images=request.num_images,
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            acceleration=request.acceleration,
            references=self._sizes(),
            size=str(request.size),
            working_megapixels=request.working_megapixels,
            canvas=str(self.plan.canvas),
            output=str(self.plan.output),
            locked=self.plan.locked,
            notices=list(self.notices),
        )


def prepare(request: EditRequest, *notices: str) -> Prepared:
    """Check ``request`` and plan it; the engine's own ``notices`` come first.

    Raises ``InputError``; costs nothing but a moment of CPU.
    """
    request.check()
    named = resolve_names(request.prompt, len(request.references))
    geometry = plan(
        request.size,
        [reference.size for reference in request.references],
        request.working_megapixels,
    )
    found = (*notices, *named.notices, *geometry.notices, *alpha_notices(request.references))
    return Prepared(request, named.text, geometry, found)


@dataclass
class Stopwatch:
    """Seconds per phase, in the order the phases first ran."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = perf_counter()
        try:
            yield
        finally:
            spent = self.seconds.get(name, 0.0) + perf_counter() - started
            self.seconds[name] = round(spent, 3)
