"""Computes the bytes that a model takes, from its shape and the size of its context. Pure.

The KV cache is exact. The compute buffer is what llama.cpp's allocator needs for the widest step of
one layer. How many rows of hidden states it also keeps was measured with `no_alloc`
(tests/fit/test_fit_memory.py); the result is within 1% for Llama 4, Llama, Mixtral, Qwen and
Gemma 3.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from l4cli.engine.kv import element_bytes, padded
from l4cli.errors import InputError, UsageError
from l4cli.fit.cache_shape import CacheShape, read_cache
from l4cli.fit.header import Metadata
from l4cli.fit.shape import ModelShape

N_UBATCH = 512

_FLOAT = 4
_MASK_ELEMENT = 2  # flash attention's mask is f16
_INPUT_PER_TOKEN = 40  # token ids, positions, cache rows, scales
_ROTATION = 64  # V is rotated in pieces of this many numbers
_CELL = 48  # position, shift, extension and the set of sequences of one cell
_USED_CELL = 96  # a used cell's entries in the sets that find cells by position
_WORK_PER_VALUE = 1.15  # bytes per number of a row of activations, quantized for the dot products

# Bytes of the process, measured: the interpreter, the command line, numpy and llama.cpp together;
# then the vocabulary, in llama.cpp and in Python together, per token and per merge.
_PROCESS = 39 << 20
_PER_TOKEN_OF_VOCABULARY, _PER_MERGE = 150, 209


@dataclass(frozen=True, slots=True)
class ContextSpec:
    """The parameters with which llama.cpp makes a context.

    n_ctx: tokens, for all `n_seq_max` sequences together.
    n_ubatch: tokens that are computed at a time.
    kv_type: type of the KV cache.
    unified: whether all sequences share one pool; otherwise each has a region of equal size.
    """

    n_ctx: int
    n_seq_max: int = 1
    n_ubatch: int = N_UBATCH
    kv_type: str = "f16"
    unified: bool = True

    def __post_init__(self) -> None:
        if self.n_ctx < 1 or self.n_seq_max < 1 or self.n_ubatch < 1:
            raise UsageError("context, sequences and batch must be 1 or more")

    @property
    def n_regions(self) -> int:
        return 1 if self.unified else self.n_seq_max

    @property
    def part_cells(self) -> int:
        """Cells of one region (or the pool) for a layer without a window."""
        return padded(max(1, padded(self.n_ctx) // self.n_regions))

    def window_cells(self, window: int) -> int:
        """Return the cells of one region (or the pool) for a layer that sees `window` tokens back.

        0 is no window.
        """
        if not window:
            return self.part_cells
        wanted = window * (self.n_seq_max if self.unified else 1) + self.n_ubatch
        return padded(min(self.part_cells, wanted))


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes of everything, summed over all devices.

    weights: all weights.
    repacked: the weights among them that are copied on loading; the rest can stay in the mapped
        file.
    kv_global: KV cache of the layers that see the whole context.
    kv_window: KV cache of the layers that see only a window.
    compute: buffers for inputs and intermediate results.
    output: the rows of logits.
    cells: llama.cpp's bookkeeping of the cache's cells.
    process: the interpreter, the libraries and the vocabulary.
    """

    weights: int
    repacked: int
    kv_global: int
    kv_window: int
    compute: int
    output: int
    cells: int
    process: int

    @property
    def kv(self) -> int:
        return self.kv_global + self.kv_window

    @property
    def context(self) -> int:
        """Everything that is freed with the context: all but weights and process."""
        return self.kv + self.compute + self.output + self.cells

    @property
    def total(self) -> int:
        return self.weights + self.context + self.process


def memory_use(
    shape: ModelShape,
    *,
    n_ctx: int,
    n_seq_max: int = 1,
    n_ubatch: int = N_UBATCH,
    kv_type: str = "f16",
    unified: bool = True,
    repack: Collection[str] = (),
    depth: int | None = None,
) -> MemoryUse:
    """Return the bytes of a model with one context.

    n_ctx, n_seq_max, n_ubatch, kv_type, unified: see ContextSpec.
    repack: the qtypes that the CPU backend copies into the order of its kernels.
    depth: tokens of the context that are filled; None is all. With fewer, llama.cpp touches less of
        the compute buffer.

    Raises UsageError for an unknown KV type, or for sizes below 1.
    """
    spec = ContextSpec(n_ctx, n_seq_max, n_ubatch, kv_type, unified)
    kv_global, kv_window = kv_cache(shape.cache, spec)
    return MemoryUse(
        weights=shape.n_bytes,
        repacked=repacked_bytes(shape, repack),
        kv_global=kv_global,
        kv_window=kv_window,
        compute=compute_buffer(shape, spec, depth) + _work(shape, spec),
        output=logits(shape, spec),
        cells=cell_notes(shape, spec, depth),
        process=process_bytes(shape),
    )


def kv_cache(cache: CacheShape, spec: ContextSpec) -> tuple[int, int]:
    """Return the KV cache's bytes: of the layers without a window, and of those with one."""
    per_number = element_bytes(spec.kv_type)
    sums = [0.0, 0.0]
    for width, window in cache.layers:
        cells = spec.n_regions * spec.window_cells(window)
        sums[bool(window)] += cells * width * per_number
    return round(sums[0]), round(sums[1])


def kv_bytes(metadata: Metadata, spec: ContextSpec) -> int | None:
    """Return the KV cache's bytes from metadata alone; None if the metadata lacks its shape."""
    try:
        return sum(kv_cache(read_cache(metadata, ""), spec))
    except InputError:
        return None


def most_per_token(cache: CacheShape, kv_type: str) -> int:
    """Return the bytes of one token in the KV cache if every layer keeps it."""
    return max(1, round(sum(cache.widths) * element_bytes(kv_type)))


def compute_buffer(shape: ModelShape, spec: ContextSpec, depth: int | None = None) -> int:
    """Return the bytes for the inputs and intermediate results of one ubatch, on one device.

    depth: tokens of the context that are filled; None is all.
    """
    n_tokens = min(spec.n_ubatch, padded(spec.n_ctx))
    inputs = masks(shape, spec, depth) + _rotations(shape.cache, spec.kv_type)
    inputs += n_tokens * _INPUT_PER_TOKEN
    layer = _FLOAT * n_tokens * _widest_step(shape, spec.kv_type)
    if depth is not None:
        layer += _freed_mask(shape, spec, depth, layer)
    rows = min(spec.n_seq_max, n_tokens)
    # With the logits, the last hidden states are kept: of all tokens, and of those whose logits
    # are wanted.
    head = _FLOAT * (rows * (shape.n_vocab + 2 * shape.n_embd) + n_tokens * shape.n_embd)
    return round(inputs + max(layer, head))


def _freed_mask(shape: ModelShape, spec: ContextSpec, depth: int, layer: int) -> int:
    """Return the bytes that the last layers' intermediate results add by reusing a freed mask.

    There are two masks if only some layers have a window. Before the last layers, llama.cpp's
    allocator frees the mask of the other kind, and intermediate results go there. The part of this
    mask beyond `depth` would not have been touched otherwise.
    """
    windows = shape.cache.windows
    if not any(windows) or all(windows):
        return 0
    unfilled = masks(shape, spec) - masks(shape, spec, depth)
    if windows[-1]:
        return min(layer, unfilled)
    rows = min(spec.n_ubatch, padded(spec.n_ctx)) * _MASK_ELEMENT
    cells = spec.window_cells(max(windows)) - padded(depth)
    return max(0, min(layer, unfilled, cells * rows))


def masks(shape: ModelShape, spec: ContextSpec, depth: int | None = None) -> int:
    """Return the bytes of flash attention's masks: one for each window that layers have.

    depth: tokens of the context that are filled; None is all.
    """
    windows = set(shape.cache.windows)
    filled = padded(depth) if depth is not None else spec.part_cells
    cells = sum(min(spec.window_cells(window), filled) for window in windows)
    return cells * min(spec.n_ubatch, padded(spec.n_ctx)) * _MASK_ELEMENT


def _rotations(cache: CacheShape, kv_type: str) -> int:
    """Return the bytes of the matrices that rotate keys and values for a quantized cache.

    llama.cpp rotates them before rounding.
    """
    head = cache.key_length
    if element_bytes(kv_type) >= _MASK_ELEMENT or not head or head % _ROTATION:
        return 0
    widest = head & -head  # the largest power of two in it
    return _FLOAT * (widest**2 + _ROTATION**2) * len(set(cache.windows))


def logits(shape: ModelShape, spec: ContextSpec) -> int:
    """Return the bytes of one row of logits for each sequence."""
    return _FLOAT * shape.n_vocab * spec.n_seq_max


def cell_notes(shape: ModelShape, spec: ContextSpec, depth: int | None = None) -> int:
    """Return the bytes of llama.cpp's bookkeeping of the cells.

    It is in RAM, whatever device the cells are on. depth: tokens that are filled; None is all.
    """
    cells = used = 0
    for window in set(shape.cache.windows):
        n_cells = spec.n_regions * spec.window_cells(window)
        cells += n_cells
        used += n_cells if depth is None else min(n_cells, depth * spec.n_regions)
    return cells * _CELL + used * _USED_CELL


def repacked_bytes(shape: ModelShape, qtypes: Collection[str]) -> int:
    """Return the bytes of weights that are copied into the order of the CPU's kernels."""
    groups = [group for block in shape.blocks for group in (block.dense, block.routed)]
    return sum(group.repacked(qtypes) for group in (*groups, shape.output))


def process_bytes(shape: ModelShape) -> int:
    """Return the bytes of l4 itself, its libraries and the vocabulary."""
    return _PROCESS + _PER_TOKEN_OF_VOCABULARY * shape.n_vocab + _PER_MERGE * shape.n_merges


def _widest_step(shape: ModelShape, kv_type: str) -> int:
    """Return how many numbers a token has in memory at once in the feed-forward network.

    This network is the widest step of a layer. The numbers are gate, up, their product, and rows of
    hidden states: four rows; three if the cache is not f16 and the heads are no wider than
    `n_embd`; five if there is a shared expert, whose output waits for the routed ones.
    """
    hidden = shape.n_embd
    rows = 4 if kv_type == "f16" or shape.n_heads_width > hidden else 3
    dense = 3 * shape.n_ff + rows * hidden
    if not shape.n_experts_used:
        return dense
    experts = 3 * shape.n_ff_experts
    if shape.has_shared_expert:
        return max(dense if shape.n_ff else 0, experts + 5 * hidden + 4 * shape.n_experts)
    outputs = shape.n_experts_used * hidden
    if outputs > shape.n_ff_experts:  # many narrow experts: their outputs are kept until summed
        return experts + outputs + 5 * hidden
    return experts + rows * hidden


def _work(shape: ModelShape, spec: ContextSpec) -> int:
    """Return the bytes of the CPU's buffer for activations, quantized for its dot products."""
    widest = max(shape.n_ff, shape.n_ff_experts, shape.n_embd, shape.n_heads_width)
    return round(min(spec.n_ubatch, padded(spec.n_ctx)) * widest * _WORK_PER_VALUE)
