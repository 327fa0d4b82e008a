"""The types that a KV cache can have, its sequences, and the steps its size goes in. Pure."""

from __future__ import annotations

from l4cli.errors import UsageError

CELL_PADDING = 256  # cells; llama.cpp rounds contexts up to it

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


def element_bytes(kv_type: str) -> float:
    """Bytes of one KV element; UsageError, naming the types there are, for any other name."""
    if kv_type not in KV_ELEMENT_BYTES:
        raise UsageError(f"no KV type {kv_type!r}: choose one of {', '.join(KV_ELEMENT_BYTES)}")
    return KV_ELEMENT_BYTES[kv_type]


def num_sequences(n_seq_max: int, *, unified: bool, with_states: bool) -> int:
    """Sequences that a context has: in a pool, saving parts of them takes one more.

    llama.cpp saves whole sequences only, so a part is given to a spare one first.
    """
    return n_seq_max + (unified and with_states)


def padded(cells: int) -> int:
    """As many cells as llama.cpp makes of it."""
    return -(-cells // CELL_PADDING) * CELL_PADDING
