"""Which tensor of a file gets which qtype: the recipe of llama.cpp's quantizer, and nothing else.

Pure: names and shapes in, qtypes out. The rules are those of ``llama_model_quantize`` without an
importance matrix (``src/llama-quant.cpp``: ``llama_tensor_get_type`` and its fallback), so that one
pass gives the very bytes of the two-step path; a test compares whole files for every ftype.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from convert.errors import ConvertError
from convert.qtypes import QTYPES


@dataclass(frozen=True)
class FType:
    """A file's type: llama.cpp's number for it and the qtype most of its tensors get."""

    name: str
    id: int
    base: str


_FTYPES = {
    name: FType(name, id_, base)
    for name, id_, base in (
        ("F32", 0, "F32"),
        ("F16", 1, "F16"),
        ("BF16", 32, "BF16"),
        ("Q8_0", 7, "Q8_0"),
        ("Q6_K", 18, "Q6_K"),
        ("Q5_K_M", 17, "Q5_K"),
        ("Q5_K_S", 16, "Q5_K"),
        ("Q5_1", 9, "Q5_1"),
        ("Q5_0", 8, "Q5_0"),
        ("Q4_K_M", 15, "Q4_K"),
        ("Q4_K_S", 14, "Q4_K"),
        ("Q4_1", 3, "Q4_1"),
        ("Q4_0", 2, "Q4_0"),
        ("IQ4_NL", 25, "IQ4_NL"),
        ("IQ4_XS", 30, "IQ4_XS"),
        ("MXFP4_MOE", 38, "MXFP4"),
        ("Q3_K_L", 13, "Q3_K"),
        ("Q3_K_M", 12, "Q3_K"),
        ("Q3_K_S", 11, "Q3_K"),
        ("IQ3_M", 27, "IQ3_S"),
        ("IQ3_S", 26, "IQ3_S"),
        ("Q2_K", 10, "Q2_K"),
        ("TQ2_0", 37, "TQ2_0"),
        ("TQ1_0", 36, "TQ1_0"),
    )
}

FTYPES: tuple[str, ...] = tuple(_FTYPES)

_NEEDS_IMATRIX = (
    "IQ1_M", "IQ1_S", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ3_XS", "IQ3_XXS", "Q2_K_S",
)  # fmt: skip

# Where a row is not whole blocks of a type, this one is tried, and then F16.
_FALLBACK = {
    "IQ3_S": "IQ4_NL",
    "IQ4_XS": "IQ4_NL",
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "TQ1_0": "Q4_0",
    "TQ2_0": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}

# With exactly 8 experts (Mixtral) attention is a small share of the file, so these give it more.
_EIGHT_EXPERTS_ATTN_OUTPUT = frozenset(
    ("Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M", "IQ3_S", "IQ3_M", "IQ4_NL", "IQ4_XS")
)


@dataclass(frozen=True)
class Model:
    """What the rules ask of a model: layers, experts (0 = dense), query heads per KV head."""

    n_layers: int
    n_experts: int
    n_gqa: int


def find_ftype(name: str) -> FType:
    """The ftype called `name` in any case. Raises ConvertError, with near matches."""
    key = name.upper()
    if key in _FTYPES:
        return _FTYPES[key]
    if key in _NEEDS_IMATRIX:
        raise ConvertError(
            f"type {key} needs an importance matrix, which is not read yet; "
            f"the smallest types without one are {', '.join(FTYPES[-4:-2])}"
        )
    near = difflib.get_close_matches(key, FTYPES, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(FTYPES)}"
    raise ConvertError(f"unknown type {name!r}; {hint}")


def file_order(name: str) -> tuple[int, str]:
    """Sort key of llama.cpp's files: first what belongs to no block, then block by block."""
    return _layer(name), name


def choose_qtypes(
    tensors: Iterable[tuple[str, tuple[int, ...]]], ftype: FType, model: Model
) -> dict[str, str]:
    """The qtype of every tensor, given as (GGUF name, shape in ne order)."""
    shapes = dict(tensors)
    is_tied = "output.weight" not in shapes
    return {name: _qtype(name, shapes[name], ftype, model, is_tied) for name in shapes}


def _qtype(name: str, shape: tuple[int, ...], ftype: FType, model: Model, is_tied: bool) -> str:
    if not _is_quantized(name, shape):
        return "F32"
    if QTYPES[ftype.base].block == 1:
        return ftype.base
    return _fit_rows(_preferred(name, shape, ftype, model, is_tied), shape[0])


def _is_quantized(name: str, shape: tuple[int, ...]) -> bool:
    n_dims = sum(n > 1 for n in shape)
    kept = name.endswith(("_norm.weight", "ffn_gate_inp.weight")) or not name.endswith("weight")
    return n_dims >= 2 and not kept


def _fit_rows(qtype: str, n_cols: int) -> str:
    for candidate in (qtype, _FALLBACK.get(qtype, qtype)):
        if n_cols % QTYPES[candidate].block == 0:
            return candidate
    return "F16"


def _preferred(name: str, shape: tuple[int, ...], ftype: FType, model: Model, is_tied: bool) -> str:
    """The type the recipe wants for one tensor, before its row length is looked at."""
    kind = _kind(name)
    if kind == "output" or (kind == "token_embd" and is_tied):
        return _output(ftype, shape[0])
    if ftype.name == "MXFP4_MOE":
        return "MXFP4" if len(shape) > 2 and shape[2] > 1 else "Q8_0"
    if kind == "token_embd":
        return "Q4_K" if ftype.base in ("TQ1_0", "TQ2_0") else ftype.base
    wanted: str | None = None
    if kind == "attn_v":
        wanted = "Q8_0" if model.n_experts == 8 else _attn_v(ftype.name, _layer(name), model)
    elif kind == "attn_k":
        wanted = "Q8_0" if model.n_experts == 8 else None
    elif kind == "attn_output":
        wanted = _attn_output(ftype.name, model)
    elif kind == "ffn_down":
        wanted = _ffn_down(ftype.name, _layer(name), model)
    return wanted or ftype.base


def _output(ftype: FType, n_cols: int) -> str:
    if ftype.name == "MXFP4_MOE" or n_cols % QTYPES[ftype.base].block:
        return "Q8_0"
    return "Q8_0" if ftype.base == "Q8_0" else "Q6_K"


def _attn_v(ftype: str, layer: int, model: Model) -> str | None:
    is_shared = model.n_gqa >= 4
    if ftype in ("Q4_K_M", "Q5_K_M"):
        return "Q6_K" if _use_more_bits(layer, model.n_layers) else None
    if ftype == "Q4_K_S":
        return "Q5_K" if layer < 4 else None
    if ftype == "Q3_K_M":
        return "Q5_K" if layer < 2 else "Q4_K"
    if ftype == "Q2_K":
        return "Q4_K" if is_shared else "Q3_K"
    if ftype in ("IQ4_NL", "IQ4_XS"):
        return "Q5_K" if is_shared else None
    if ftype == "IQ3_S":
        return "Q4_K" if is_shared else None
    return {"Q3_K_L": "Q5_K", "IQ3_M": "Q4_K"}.get(ftype)


def _attn_output(ftype: str, model: Model) -> str | None:
    if model.n_experts == 8:
        return "Q5_K" if ftype in _EIGHT_EXPERTS_ATTN_OUTPUT else None
    return {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "IQ3_M": "Q4_K"}.get(ftype)


def _ffn_down(ftype: str, layer: int, model: Model) -> str | None:
    n = model.n_layers
    is_first_eighth = layer < n // 8
    if ftype in ("Q4_K_M", "Q5_K_M"):
        return "Q6_K" if _use_more_bits(layer, n) else None
    if ftype in ("Q4_K_S", "IQ4_NL", "IQ4_XS"):
        return "Q5_K" if is_first_eighth else None
    if ftype == "Q3_K_M":
        return "Q5_K" if layer < n // 16 else "Q4_K"
    if ftype == "IQ3_M":
        wants_more = model.n_experts == 8 and _use_more_bits(layer, n)
        return "Q4_K" if is_first_eighth or wants_more else None
    return {"Q2_K": "Q3_K", "Q3_K_L": "Q5_K"}.get(ftype)


def _use_more_bits(layer: int, n_layers: int) -> bool:
    """The first and last eighth of the layers, and every third of those between."""
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2


def _kind(name: str) -> str:
    if name in ("output.weight", "token_embd.weight"):
        return name.removesuffix(".weight")
    match = re.search(r"(attn_v|attn_k|attn_output)\.weight|(ffn_down)", name)
    return (match[1] or match[2]) if match else "other"


def _layer(name: str) -> int:
    """The block a tensor belongs to; -1 for none."""
    match = re.match(r"blk\.(\d+)\.", name)
    return int(match[1]) if match else -1
