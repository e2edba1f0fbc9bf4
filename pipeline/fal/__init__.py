"""The remote engine: FireRed on fal.ai, over its queue protocol."""
