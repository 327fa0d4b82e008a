"""Bytes of a KV cache, from a model's metadata alone. Pure."""

from __future__ import annotations

from collections.abc import Callable

from l4cli.errors import UsageError

# Bytes a KV element takes: ggml's block of 32, its scales included.
KV_ELEMENT_BYTES = {
    "f16": 2.0,
    "bf16": 2.0,
    "f32": 4.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
}
_CHUNK, _CELL_PADDING = 8192, 256  # of llama.cpp's Llama 4: one layer in four sees everything

Metadata = Callable[[str], str | None]


def element_bytes(kv_type: str) -> float:
    """Bytes of one KV element; UsageError, naming the types there are, for any other name."""
    if kv_type not in KV_ELEMENT_BYTES:
        raise UsageError(f"no KV type {kv_type!r}: choose one of {', '.join(KV_ELEMENT_BYTES)}")
    return KV_ELEMENT_BYTES[kv_type]


def kv_cache_bytes(
    metadata: Metadata, *, n_ctx: int, n_seq_max: int, n_ubatch: int, kv_type: str, unified: bool
) -> int | None:
    """Bytes of `n_ctx` cells for `n_seq_max` sequences; None where the metadata does not tell.

    Layers of other models than Llama 4 are taken to see the whole context, so for those with a
    sliding window it is an upper bound.
    """
    element = _layer_cell_bytes(metadata, kv_type)
    if element is None:
        return None
    n_layers, cell_bytes = element
    is_chunked = metadata("general.architecture") == "llama4"
    n_global = n_layers // 4 if is_chunked else n_layers
    parts = 1 if unified else n_seq_max
    part = _padded(n_ctx // parts)
    window = min(part, _padded(_CHUNK * (n_seq_max // parts) + n_ubatch))
    cells = n_global * part + (n_layers - n_global) * window
    return round(parts * cells * cell_bytes)


def kv_bytes_per_token(metadata: Metadata, kv_type: str) -> int | None:
    """Bytes that a token takes when every layer keeps it: an upper bound."""
    element = _layer_cell_bytes(metadata, kv_type)
    return None if element is None else max(1, round(element[0] * element[1]))


def _layer_cell_bytes(metadata: Metadata, kv_type: str) -> tuple[int, float] | None:
    """The number of layers, and the bytes of one cell in one of them."""
    architecture, element = metadata("general.architecture"), element_bytes(kv_type)

    def number(key: str) -> int:
        return int(metadata(f"{architecture}.{key}") or "")

    try:
        n_layers, n_heads = number("block_count"), number("attention.head_count")
        n_heads_kv = number("attention.head_count_kv")
        default = number("embedding_length") // n_heads
        key = int(metadata(f"{architecture}.attention.key_length") or default)
        value = int(metadata(f"{architecture}.attention.value_length") or default)
    except (ValueError, ZeroDivisionError):
        return None
    return n_layers, n_heads_kv * (key + value) * element


def _padded(cells: int) -> int:
    return -(-cells // _CELL_PADDING) * _CELL_PADDING
