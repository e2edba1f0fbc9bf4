"""How an edit is done. Imports torch, numpy and pillow; never ComfyUI and never ``nodes``."""
