"""What fits where: a model's shape, a machine's memory, and the arithmetic between them.

shape.py       metadata (header.py) and tensor table -> ModelShape; cache_shape.py: its cache;
               described.py: from models.toml or a config.json alone
memory.py      pure: bytes of weights, KV cache, compute buffers
hardware.py    what this machine has, or what a described one would have
placement.py   pure: which weights lie on which device
choose.py      pure: what to give up, in which order, until it fits
wanted.py      how a model is to be loaded; loading.py: what that leaves open is chosen
speed.py       pure: tokens a second, from the bytes a token touches; rates.py: or as measured
plan.py        one line of `l4 plan` a quantization type
"""
