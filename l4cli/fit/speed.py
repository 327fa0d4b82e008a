"""Estimates tokens per second from the bytes that one token touches. Pure.

To decode a token, every weight that it passes is read once, and so are the keys and values of all
tokens before it. So memory bandwidth limits the speed. The share of the bandwidth that is reached
was measured on a CPU (benchmarks/plan.py); for graphics cards it was derived from published speeds.
"""

from __future__ import annotations

from l4cli.engine.kv import element_bytes
from l4cli.fit.hardware import DISK_BANDWIDTH, Hardware
from l4cli.fit.memory import ContextSpec
from l4cli.fit.placement import Placement
from l4cli.fit.shape import Block, ModelShape, TypeBytes

CPU_SHARE, GPU_SHARE = 0.7, 0.6  # of the bandwidth that is reached
_FEWEST_BITS = 4.0
_TOKEN = 300e-6  # seconds per token for sampling and the engine's step
_LAYER_ON_CPU, _LAYER_ON_GPU = 150e-6, 30e-6  # seconds that even the smallest layer takes


def decode_tps(
    shape: ModelShape,
    spec: ContextSpec,
    placement: Placement,
    hardware: Hardware,
    *,
    depth: int = 0,
    missing: int = 0,
) -> float:
    """Return the tokens per second of one sequence while it decodes.

    depth: tokens before it in the context.
    missing: bytes of weights that do not fit in RAM and are read from disk.
    """
    first = shape.n_layers + 1 - placement.gpu_layers
    ends, end = [], first
    for count in placement.split:
        end += count
        ends.append(end)
    seconds, in_ram = _TOKEN, 0.0
    for layer in range(shape.n_layers + 1):
        dense, routed = _touched(shape, layer)
        cache = _cache_read(shape, spec, layer, depth)
        seconds += _LAYER_ON_CPU if layer < first else _LAYER_ON_GPU
        if layer < first:
            in_ram += dense + routed + cache
            continue
        card = next(index for index, end in enumerate(ends) if layer < end)
        if layer < placement.cpu_moe:
            in_ram += routed
            routed = 0.0
        seconds += (dense + routed + cache) / (hardware.gpus[card].bandwidth * GPU_SHARE)
    seconds += in_ram / (hardware.ram_bandwidth * CPU_SHARE)
    if missing > 0:
        seconds += in_ram * min(1.0, missing / max(1, shape.n_bytes)) / DISK_BANDWIDTH
    return 1 / seconds


def _touched(shape: ModelShape, layer: int) -> tuple[float, float]:
    """Return the bytes that a token reads of a layer: dense weights, and those of its experts."""
    if layer == shape.n_layers:
        return shape.output.total + (shape.embeddings.total if shape.is_tied else 0), 0.0
    block: Block = shape.blocks[layer]
    share = shape.n_experts_used / shape.n_experts if shape.n_experts else 1.0
    return _as_read(block.dense), _as_read(block.routed) * share


def _as_read(group: TypeBytes) -> float:
    """Return the bytes, counting every type as at least 4 bits per weight.

    Unpacking smaller types takes as much time as reading fewer bytes saves.
    """
    sizes = group.sizes.items()
    return sum(size * max(1.0, _FEWEST_BITS / _bits(qtype)) for qtype, size in sizes)


def _bits(qtype: str) -> float:
    from convert.gguf.qtypes import QTYPES

    return QTYPES[qtype].bits if qtype in QTYPES else _FEWEST_BITS


def _cache_read(shape: ModelShape, spec: ContextSpec, layer: int, depth: int) -> float:
    if layer >= len(shape.cache.widths):
        return 0.0
    width, window = shape.cache.widths[layer], shape.cache.windows[layer]
    return (min(depth, window) if window else depth) * width * element_bytes(spec.kv_type)
