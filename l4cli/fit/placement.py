"""Which weights lie on which device, and how many bytes each device then holds. Pure.

This follows llama.cpp. The last layers go to the graphics cards, one card after the other, and the
output matrix follows the last layer. A layer's KV cache is on the same device as the layer. The
embeddings stay in RAM, and so do the routed experts of the first `cpu_moe` layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from l4cli.engine.kv import element_bytes
from l4cli.fit.hardware import Hardware
from l4cli.fit.memory import (
    ContextSpec,
    cell_notes,
    compute_buffer,
    logits,
    masks,
    process_bytes,
)
from l4cli.fit.shape import ModelShape

_FLOAT = 4
_COPIED_ELEMENT = 2  # a quantized cache is copied to f16 for CUDA's kernels


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the weights go.

    split: layers on each card; the output counts as one.
    cpu_moe: number of layers, from the first, whose routed experts stay in RAM.
    repack: whether weights in RAM are copied into the order of the CPU's kernels if it has one for
        their qtype. Otherwise all of them stay in the mapped file.
    """

    split: tuple[int, ...] = ()
    cpu_moe: int = 0
    repack: bool = True

    @property
    def gpu_layers(self) -> int:
        return sum(self.split)


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """Bytes on one device.

    `mapped` are the bytes of its weights that can stay in the mapped file (in RAM only).
    """

    weights: int
    kv: int
    compute: int
    mapped: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.compute


@dataclass(frozen=True, slots=True)
class Use:
    """Bytes on each device. In RAM, `compute` includes the logits and the process itself."""

    gpus: tuple[DeviceUse, ...]
    ram: DeviceUse

    @property
    def kv(self) -> int:
        return self.ram.kv + sum(gpu.kv for gpu in self.gpus)

    @property
    def compute(self) -> int:
        return self.ram.compute + sum(gpu.compute for gpu in self.gpus)


def lay_out(shape: ModelShape, spec: ContextSpec, placement: Placement, hardware: Hardware) -> Use:
    """Return the bytes that each device holds with this placement."""
    first = shape.n_layers + 1 - placement.gpu_layers
    gpus, at = [], first
    for count in placement.split:
        gpus.append(_gpu_use(shape, spec, range(at, at + count), placement.cpu_moe))
        at += count
    return Use(tuple(gpus), _ram_use(shape, spec, first, placement, hardware))


def fill(
    shape: ModelShape, spec: ContextSpec, hardware: Hardware, n_gpu_layers: int, cpu_moe: int
) -> tuple[int, ...] | None:
    """Return how many of the last `n_gpu_layers` layers each card takes; None if they do not fit.

    Cards are filled one after the other.
    """
    split = [0] * len(hardware.gpus)
    room = [gpu.usable for gpu in hardware.gpus]
    compute = gpu_compute(shape, spec, cpu_moe)
    at = 0
    for layer in range(shape.n_layers + 1 - n_gpu_layers, shape.n_layers + 1):
        size = layer_bytes(shape, spec, layer, cpu_moe)
        while at < len(room) and size + (0 if split[at] else compute) > room[at]:
            at += 1
        if at == len(room):
            return None
        room[at] -= size + (0 if split[at] else compute)
        split[at] += 1
    return tuple(split)


def layer_bytes(shape: ModelShape, spec: ContextSpec, layer: int, cpu_moe: int) -> int:
    """Return the bytes of a layer and its cache on a card; layer `n_layers` is the output."""
    return layer_weights(shape, layer, cpu_moe) + layer_kv(shape, spec, layer)


def layer_weights(shape: ModelShape, layer: int, cpu_moe: int) -> int:
    """Return the bytes of a layer's weights on a card, without experts that stay in RAM.

    Layer `n_layers` is the output; if it is tied to the embeddings, the card gets a copy of these.
    """
    if layer == shape.n_layers:
        return shape.output.total + (shape.embeddings.total if shape.is_tied else 0)
    block = shape.blocks[layer]
    return block.dense.total + (block.routed.total if layer >= cpu_moe else 0)


def layer_kv(shape: ModelShape, spec: ContextSpec, layer: int) -> int:
    """Return the bytes of a layer's KV cache."""
    if layer >= len(shape.cache.widths):
        return 0
    width, window = shape.cache.widths[layer], shape.cache.windows[layer]
    return round(spec.n_regions * spec.window_cells(window) * width * element_bytes(spec.kv_type))


def gpu_compute(shape: ModelShape, spec: ContextSpec, cpu_moe: int) -> int:
    """Return the bytes that a card needs for computing.

    A quantized cache is copied to f16, one layer at a time. If there are experts in RAM, prompts
    copy one tensor of experts to the card at a time. Neither has been compared with measurements
    on a card.
    """
    size = compute_buffer(shape, spec)
    if element_bytes(spec.kv_type) < _COPIED_ELEMENT:
        cells = [spec.window_cells(window) * width for width, window in shape.cache.layers]
        size += max(cells, default=0) * _COPIED_ELEMENT
    if any(block.routed.total for block in shape.blocks[:cpu_moe]):
        size += shape.largest_routed
    return size


def _gpu_use(
    shape: ModelShape, spec: ContextSpec, layers: Sequence[int], cpu_moe: int
) -> DeviceUse:
    if not layers:
        return DeviceUse(0, 0, 0)
    return DeviceUse(
        weights=sum(layer_weights(shape, layer, cpu_moe) for layer in layers),
        kv=sum(layer_kv(shape, spec, layer) for layer in layers),
        compute=gpu_compute(shape, spec, cpu_moe),
    )


def _ram_use(
    shape: ModelShape, spec: ContextSpec, first: int, placement: Placement, hardware: Hardware
) -> DeviceUse:
    groups = [shape.embeddings]
    for layer, block in enumerate(shape.blocks):
        if layer < first:
            groups.append(block.dense)
        if layer < first or layer < placement.cpu_moe:
            groups.append(block.routed)
    if first > shape.n_layers:
        groups.append(shape.output)
    weights = sum(group.total for group in groups)
    copied = sum(group.repacked(hardware.repacks) for group in groups) if placement.repack else 0
    computes_here = first > 0
    compute = compute_buffer(shape, spec) if computes_here else _inputs(shape, spec)
    return DeviceUse(
        weights=weights,
        kv=sum(layer_kv(shape, spec, layer) for layer in range(min(first, shape.n_layers))),
        compute=compute + logits(shape, spec) + cell_notes(shape, spec) + process_bytes(shape),
        mapped=weights - copied,
    )


def _inputs(shape: ModelShape, spec: ContextSpec) -> int:
    """Return the bytes that RAM needs to prepare a card's inputs: masks and embedded tokens."""
    return masks(shape, spec) + _FLOAT * spec.n_ubatch * shape.n_embd
