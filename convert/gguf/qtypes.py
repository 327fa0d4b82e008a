"""The qtypes, that is ggml's tensor types: number, weights per block and bytes per block of each.

Source: ``enum ggml_type`` in ``ggml/include/ggml.h``, the block structures in ``ggml-common.h``.
"""

from __future__ import annotations

from dataclasses import dataclass

from convert.errors import unknown


@dataclass(frozen=True)
class QType:
    """One ggml tensor type: `block` weights are stored in `block_bytes` bytes."""

    name: str
    id: int
    block: int
    block_bytes: int

    @property
    def bits(self) -> float:
        """Bits per weight."""
        return 8 * self.block_bytes / self.block

    @property
    def is_quantized(self) -> bool:
        return self.block > 1

    def row_bytes(self, n_cols: int) -> int:
        """Bytes of a row of `n_cols` weights. Raises ValueError if they are not whole blocks."""
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
        ("IQ2_XXS", 16, 256, 66),
        ("IQ2_XS", 17, 256, 74),
        ("IQ3_XXS", 18, 256, 98),
        ("IQ1_S", 19, 256, 50),
        ("IQ4_NL", 20, 32, 18),
        ("IQ3_S", 21, 256, 110),
        ("IQ2_S", 22, 256, 82),
        ("IQ4_XS", 23, 256, 136),
        ("IQ1_M", 29, 256, 56),
        ("BF16", 30, 1, 2),
        ("TQ1_0", 34, 256, 54),
        ("TQ2_0", 35, 256, 66),
        ("MXFP4", 39, 32, 17),
        ("NVFP4", 40, 64, 36),
        ("Q1_0", 41, 128, 18),
        ("Q2_0", 42, 64, 18),
    )
}


def find_qtype(name: str) -> QType:
    """The qtype called `name`, in any case. Raises ConvertError, which suggests near matches."""
    found = QTYPES.get(name.upper())
    if found is None:
        raise unknown("tensor type", name, QTYPES)
    return found
