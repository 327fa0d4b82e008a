"""The shape of a model's KV cache: the width of each layer's cells, and its attention window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from l4cli.fit.header import Header, Metadata, is_array

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS


@dataclass(frozen=True, slots=True)
class Windows:
    """Of every `period` layers, all but one see only the last `size` tokens.

    The one that sees everything is the last of the period, or the first if `is_first_global`.
    """

    size: int | None  # None: the file states it
    period: int
    is_first_global: bool = False


# llama.cpp's own patterns for files that state none (`load_swa_pattern` in src/models/*.cpp).
# Llama 4's chunk size is always 8192, except that a file that states 0 has no chunks.
_WINDOWS = {
    "llama4": Windows(8192, 4),
    "gemma2": Windows(4096, 2),
    "gemma3": Windows(None, 6),
    "gpt-oss": Windows(None, 2),
    "cohere2": Windows(None, 4),
    "exaone4": Windows(4096, 4),
    "olmo2": Windows(None, 4),  # OLMo 3; OLMo 2 states no window
    "smallthinker": Windows(4096, 4, is_first_global=True),
}


@dataclass(frozen=True, slots=True)
class CacheShape:
    """The KV cache of each layer.

    key_length: numbers in the key of one head.
    widths: for each layer, numbers in a cell, K and V together.
    windows: for each layer, how many tokens it sees back; 0 is all.
    is_upper_bound: some layers may have a window that is not known here.
    """

    key_length: int
    widths: tuple[int, ...]
    windows: tuple[int, ...]
    is_upper_bound: bool = False

    @property
    def layers(self) -> Iterator[tuple[int, int]]:
        """Width and window of each layer."""
        return zip(self.widths, self.windows, strict=True)


def read_cache(metadata: Metadata, name: str) -> CacheShape:
    """Return the cache's shape, from metadata alone; `name` is the model's name in errors.

    Raises InputError if the metadata is missing or makes no sense.
    """
    read = Header(metadata, name)
    n_layers = read.number("block_count", least=1, most=MAX_LAYERS)
    n_heads = read.numbers("attention.head_count", n_layers)
    n_heads_kv = read.numbers("attention.head_count_kv", n_layers, n_heads)
    default = read.number("embedding_length") // max(1, max(n_heads))
    key = read.number("attention.key_length", default)
    value = read.number("attention.value_length", default)
    if read.number("attention.kv_lora_rank", 0) and read.number("attention.key_length_mla", 0):
        value = 0  # with latent attention, V is part of K
    windows, is_upper_bound = _windows(read, n_layers)
    widths = tuple(n * (key + value) for n in n_heads_kv)
    return CacheShape(key, widths, windows, is_upper_bound)


def _windows(read: Header, n_layers: int) -> tuple[tuple[int, ...], bool]:
    known = _WINDOWS.get(read.architecture)
    stated = read.number("attention.sliding_window", -1)
    size = known.size if known and (read.architecture == "llama4" or stated < 0) else stated
    if stated == 0 or not size or size < 0:
        return (0,) * n_layers, False
    pattern = read.raw("attention.sliding_window_pattern")
    if is_array(pattern) and len(pattern) >= n_layers:
        return tuple(size if pattern[i] else 0 for i in range(n_layers)), False
    if known is None:
        return (0,) * n_layers, True
    period = pattern if type(pattern) is int else known.period
    at = 0 if known.is_first_global else period - 1
    return tuple(0 if period and i % period == at else size for i in range(n_layers)), False
