"""The element types of a KV cache, a context's number of sequences, and its padding. Pure."""

from __future__ import annotations

from l4cli.errors import UsageError

CELL_PADDING = 256  # cells; llama.cpp rounds the size of a context up to a multiple of it

# Bytes per KV element. For quantized types: a ggml block's bytes, with scales, per 32 elements.
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


def element_bytes(kv_type: str) -> float:
    """Bytes per KV element; UsageError, which names the existing types, for any other name."""
    if kv_type not in KV_ELEMENT_BYTES:
        raise UsageError(f"no KV type {kv_type!r}: choose one of {', '.join(KV_ELEMENT_BYTES)}")
    return KV_ELEMENT_BYTES[kv_type]


def num_sequences(n_seq_max: int, *, unified: bool, with_states: bool) -> int:
    """The number of sequences that a context needs: one more for a pool that saves states.

    llama.cpp saves whole sequences only, so a part is first forked to a spare sequence.
    """
    return n_seq_max + (unified and with_states)


def padded(cells: int) -> int:
    """`cells` rounded up as llama.cpp does."""
    return -(-cells // CELL_PADDING) * CELL_PADDING
