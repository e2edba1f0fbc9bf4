"""The local engine: FireRed on this machine, over diffusers' and transformers' modules."""
