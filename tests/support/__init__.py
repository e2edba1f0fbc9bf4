"""What the tests and the demo share: the pack, the real ComfyUI, a browser."""
