"""The ftypes, that is the types a whole file can have: all that llama.cpp's quantizer offers.

Source: ``enum llama_ftype`` in ``include/llama.h``, ``llama_ftype_get_default_type`` in
``src/llama-quant.cpp``. `convert.recipe` decides each tensor's qtype, for example which tensors of
a Q4_K_M file are not Q4_K.
"""

from __future__ import annotations

from dataclasses import dataclass

from convert.errors import unknown


@dataclass(frozen=True)
class FType:
    """A file's type: llama.cpp's number for it and the qtype most of its tensors get."""

    name: str
    id: int
    base: str


# In the order of Scout's file sizes, the largest first.
_FTYPES = {
    name: FType(name, id_, base)
    for name, id_, base in (
        ("F32", 0, "F32"),
        ("F16", 1, "F16"),
        ("BF16", 32, "BF16"),
        ("Q8_0", 7, "Q8_0"),
        ("Q6_K", 18, "Q6_K"),
        ("Q5_1", 9, "Q5_1"),
        ("Q5_K_M", 17, "Q5_K"),
        ("Q5_K_S", 16, "Q5_K"),
        ("Q5_0", 8, "Q5_0"),
        ("Q4_1", 3, "Q4_1"),
        ("Q4_K_M", 15, "Q4_K"),
        ("MXFP4_MOE", 38, "MXFP4"),
        ("IQ4_NL", 25, "IQ4_NL"),
        ("Q4_K_S", 14, "Q4_K"),
        ("Q4_0", 2, "Q4_0"),
        ("IQ4_XS", 30, "IQ4_XS"),
        ("Q3_K_L", 13, "Q3_K"),
        ("Q3_K_M", 12, "Q3_K"),
        ("IQ3_M", 27, "IQ3_S"),
        ("IQ3_S", 26, "IQ3_S"),
        ("Q3_K_S", 11, "Q3_K"),
        ("IQ3_XS", 22, "IQ3_S"),
        ("IQ3_XXS", 23, "IQ3_XXS"),
        ("Q2_K", 10, "Q2_K"),
        ("Q2_K_S", 21, "Q2_K"),
        ("IQ2_M", 29, "IQ2_S"),
        ("IQ2_S", 28, "IQ2_XS"),
        ("IQ2_XS", 20, "IQ2_XS"),
        ("Q2_0", 41, "Q2_0"),
        ("TQ2_0", 37, "TQ2_0"),
        ("IQ2_XXS", 19, "IQ2_XXS"),
        ("IQ1_M", 31, "IQ1_M"),
        ("TQ1_0", 36, "TQ1_0"),
        ("IQ1_S", 24, "IQ1_S"),
        ("Q1_0", 40, "Q1_0"),
    )
}

FTYPES: tuple[str, ...] = tuple(_FTYPES)


def find_ftype(name: str) -> FType:
    """The ftype called `name`, in any case. Raises ConvertError, which suggests near matches."""
    found = _FTYPES.get(name.upper())
    if found is None:
        raise unknown("type", name, FTYPES)
    return found
