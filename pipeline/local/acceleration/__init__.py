"""The same mathematics in fewer and faster kernels, and one recipe that leaves steps out.

``regular`` differs from the reference by rounding only. What is fused are the parts between the
linear layers: those are left to the host, so that weights may be streamed, quantised or patched by
a LoRA as before. ``high`` is ``regular`` with steps left out where little would change.
"""
