"""What a model's context costs: how wide each layer's cache is, and how far back it sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from l4cli.fit.header import Header, Metadata, is_array

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS


@dataclass(frozen=True, slots=True)
class Windows:
    """Which layers see only the last `size` tokens: all but one of every `period`."""

    size: int | None  # None: the file says
    period: int
    is_first_global: bool = False


# llama.cpp's own patterns, where the file has none (`load_swa_pattern` in src/models/*.cpp).
# Llama 4's chunk is fixed whatever the file says, unless that is 0.
_WINDOWS = {
    "llama4": Windows(8192, 4),
    "gemma2": Windows(4096, 2),
    "gemma3": Windows(None, 6),
    "gpt-oss": Windows(None, 2),
    "cohere2": Windows(None, 4),
    "exaone4": Windows(4096, 4),
    "olmo2": Windows(None, 4),
    "smallthinker": Windows(4096, 4, is_first_global=True),
}


@dataclass(frozen=True, slots=True)
class CacheShape:
    """Of each layer: numbers in a cell of K and V together, and the tokens it sees back (0: all).

    `is_upper_bound`: some layers may see less than is known here.
    """

    key_length: int  # of one head
    widths: tuple[int, ...]
    windows: tuple[int, ...]
    is_upper_bound: bool = False

    @property
    def layers(self) -> Iterator[tuple[int, int]]:
        """Width and window of each."""
        return zip(self.widths, self.windows, strict=True)


def read_cache(metadata: Metadata, name: str) -> CacheShape:
    """What a context costs, from metadata alone. Raises InputError where that does not tell."""
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
