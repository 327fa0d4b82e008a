"""ggml's tensor types: number, block length and block size of each.

Source: ``enum ggml_type`` in ``ggml/include/ggml.h``, the block structures in ``ggml-common.h``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class QType:
    """One ggml tensor type: `block` weights are stored in `block_bytes` bytes."""

    name: str
    id: int
    block: int
    block_bytes: int

    def row_bytes(self, n_cols: int) -> int:
        """Bytes of a row of `n_cols` weights, which must be whole blocks."""
        blocks, rest = divmod(n_cols, self.block)
        if rest:
            raise ValueError(f"a row of {n_cols} weights is not whole blocks of {self.name}")
        return blocks * self.block_bytes


QTYPES: dict[str, QType] = {
    name: QType(name, id_, block, block_bytes)
    for name, id_, block, block_bytes in (
        ("F32", 0, 1, 4),
        ("F16", 1, 1, 2),
        ("Q4_0", 2, 32, 18),
        ("Q4_1", 3, 32, 20),
        ("Q5_0", 6, 32, 22),
        ("Q5_1", 7, 32, 24),
        ("Q8_0", 8, 32, 34),
        ("Q2_K", 10, 256, 84),
        ("Q3_K", 11, 256, 110),
        ("Q4_K", 12, 256, 144),
        ("Q5_K", 13, 256, 176),
        ("Q6_K", 14, 256, 210),
        ("IQ4_NL", 20, 32, 18),
        ("IQ3_S", 21, 256, 110),
        ("IQ4_XS", 23, 256, 136),
        ("BF16", 30, 1, 2),
        ("TQ1_0", 34, 256, 54),
        ("TQ2_0", 35, 256, 66),
        ("MXFP4", 39, 32, 17),
    )
}
