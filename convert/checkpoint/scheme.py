"""Finds out how a checkpoint is quantized, and which scales belong to a matrix.

Supported are the formats of compressed-tensors for eight-bit floats and for integers, and FP8 as
DeepSeek and others store it. The number of bits and the group size are inferred from each tensor's
shape, because layers may differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convert.checkpoint.checkpoint import StoredTensor
from convert.checkpoint.hparams import Config
from convert.checkpoint.tensors import Scale
from convert.errors import ConvertError

SCALE_SUFFIXES = ("_scale", "_scale_inv")
# Scales of activations and of the KV cache. llama.cpp does not use them.
DROPPED_SUFFIXES = (
    ".input_scale", ".activation_scale", ".input_scale_ub", ".input_zero_point", ".k_scale",
    ".v_scale", ".k_zero_point", ".v_zero_point",
)  # fmt: skip

_SCALE_DTYPES = ("F32", "BF16", "F16")
_FORMATS = ("float-quantized", "int-quantized", "naive-quantized", "pack-quantized")
_PACKED_BITS = (2, 4, 8)  # widths of packed integers that divide a word evenly
_WORD_BITS = 32

Block = tuple[int, int]


def read_block_size(config: Config) -> Block | None:
    """The block [rows, columns] of a block-quantized checkpoint; None for every other checkpoint.

    Raises ConvertError if the checkpoint is quantized in a way that is not supported.
    """
    stated = config.raw("quantization_config") or config.text().raw("quantization_config")
    if not isinstance(stated, dict) or not stated:
        return None
    method, formats = stated.get("quant_method"), _formats(stated)
    is_read = method in ("fp8", "fbgemm_fp8")
    if method == "compressed-tensors":
        is_read = all(form in _FORMATS for form in formats)
    is_transformed = bool((stated.get("transform_config") or {}).get("config_groups"))
    sparsity = (stated.get("sparsity_config") or {}).get("format") or "dense"
    if not is_read or sparsity != "dense" or is_transformed:
        extras = [sparsity] * (sparsity != "dense") + ["transforms"] * is_transformed
        what = ", ".join(map(str, (method, *formats, *extras)))
        raise ConvertError(
            f"{config.path}: the checkpoint is quantized in an unsupported way ({what}); "
            "convert from the BF16 checkpoint it was made from"
        )
    return _block_size(stated)


def _formats(stated: dict[str, Any]) -> list[Any]:
    """The format of every config group; without groups, the format for all."""
    groups = (stated.get("config_groups") or {}).values()
    whole = stated.get("format")
    formats = [group.get("format") or whole for group in groups if isinstance(group, dict)]
    return list(dict.fromkeys(formats or [whole or "float-quantized"]))


def _block_size(stated: dict[str, Any]) -> Block | None:
    blocks = [stated.get("weight_block_size")]
    for group in (stated.get("config_groups") or {}).values():
        blocks.append((group.get("weights") or {}).get("block_structure"))
    for block in blocks:
        if isinstance(block, list) and len(block) == 2:
            return int(block[0]), int(block[1])
    return None


def packed_bits(packed: StoredTensor, n_rows: int, n_cols: int) -> int:
    """How many bits each number takes in `packed`, which holds [n_rows, n_cols] numbers.

    Raises ConvertError if its shape fits none.
    """
    if packed.dtype == "I32":
        for bits in _PACKED_BITS:
            if packed.shape == (n_rows, -(-n_cols * bits // _WORD_BITS)):
                return bits
    raise ConvertError(
        f"{packed.path}: {packed.name} of {packed.dtype} {list(packed.shape)} is not [{n_rows}, "
        f"{n_cols}] packed in {', '.join(map(str, _PACKED_BITS))} bits"
    )


def place_scale(
    name: str,
    shape: Block,
    beside: Mapping[str, StoredTensor],
    *,
    block: Block | None = None,
    bits: int = 0,
) -> Scale:
    """Which numbers of the matrix `name` each scale and zero point applies to.

    shape: rows and columns of the matrix.
    beside: the matrix's scales, zero points and group indices, by name suffix.
    block: rows and columns that share a scale; None: inferred from the scales' shape.
    bits: of a packed number; 0 if the numbers are not packed.

    Raises ConvertError if shapes or dtypes do not fit.
    """
    n_rows, n_cols = shape
    stored = next(beside[suffix] for suffix in SCALE_SUFFIXES if suffix in beside)
    block_rows, block_cols = block or (0, 0)
    is_grouped = len(stored.shape) == 2 and stored.shape[0] == n_rows
    if stored.shape in ((), (1,), (1, 1)):
        block_rows, block_cols = n_rows, n_cols
    elif stored.shape == (n_rows,):
        block_rows, block_cols = 1, n_cols
    elif not block and is_grouped and n_cols % stored.shape[1] == 0:
        block_rows, block_cols = 1, n_cols // stored.shape[1]
    elif not block or stored.shape != (-(-n_rows // block_rows), -(-n_cols // block_cols)):
        raise ConvertError(
            f"{stored.path}: {stored.name} of shape {list(stored.shape)} does not cover "
            f"{name} {list(shape)}"
        )
    if stored.dtype not in _SCALE_DTYPES:
        raise ConvertError(f"{stored.path}: {stored.name} has the unsupported dtype {stored.dtype}")
    scale = Scale(
        stored,
        block_rows,
        block_cols,
        n_across=-(-n_cols // block_cols),
        bits=bits,
        zero_point=beside.get("_zero_point"),
        group_of_column=beside.get("_g_idx"),
    )
    _check_companions(scale, n_rows, n_cols)
    return scale


def _check_companions(scale: Scale, n_rows: int, n_cols: int) -> None:
    n_down, bits = -(-n_rows // scale.block_rows), scale.bits
    zero, groups = scale.zero_point, scale.group_of_column
    if zero is not None:
        words = -(-n_down * bits // _WORD_BITS)
        shape = (words, scale.n_across) if zero.dtype == "I32" else scale.stored.shape
        if zero.shape != shape or zero.dtype not in (("I8", "I32") if bits else ("I8",)):
            raise _misfit(zero, scale.stored)
    if groups is not None and (groups.dtype, groups.shape) != ("I32", (n_cols,)):
        raise _misfit(groups, scale.stored)


def _misfit(companion: StoredTensor, scale: StoredTensor) -> ConvertError:
    return ConvertError(
        f"{companion.path}: {companion.name} of {companion.dtype} {list(companion.shape)} does "
        f"not match {scale.name} {list(scale.shape)}"
    )
