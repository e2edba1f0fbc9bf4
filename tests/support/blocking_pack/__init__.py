"""A node pack for tests: a node that blocks ComfyUI's loop as a sampler does.

It asks for the cancel flag all the time, and asking the way samplers do clears the flag.
"""

import time

import comfy.model_management
from comfy_api.latest import ComfyExtension, io


class TestBlock(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TestBlock",
            category="tests",
            is_output_node=True,
            inputs=[io.Image.Input("after"), io.Float.Input("seconds", default=1.0)],
            outputs=[],
        )

    @classmethod
    def execute(cls, after: object, seconds: float) -> io.NodeOutput:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            comfy.model_management.throw_exception_if_processing_interrupted()
            time.sleep(0.001)
        return io.NodeOutput()


class Extension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [TestBlock]


async def comfy_entrypoint() -> Extension:
    return Extension()
