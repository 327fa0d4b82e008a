"""Computes whether a model fits on a machine: its memory on each device, and its speed.

header.py       typed access to a model's metadata
cache_shape.py  metadata -> CacheShape: the KV cache of each layer
shape.py        metadata and tensor table -> ModelShape
described.py    models.toml or a config.json alone -> ModelShape
memory.py       pure: bytes of weights, KV cache and compute buffers
hardware.py     what this machine has, or a described one would have
placement.py    pure: which weights lie on which device
choose.py       pure: what to move off the cards, in which order, until the model fits
together.py     pure: whether several models fit beside each other, and what each may take
speed.py        pure: tokens per second, estimated from the bytes that a token touches
rates.py        pure: tokens per second, measured or estimated
plan.py         pure: one line of `l4 plan` for each quantization type
"""
