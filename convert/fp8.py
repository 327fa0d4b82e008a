"""FP8 checkpoints: eight-bit floats beside a tensor of scales, by channel, by block or for all.

Sources: vLLM's compressed-tensors ``float-quantized`` (``weight_scale``) and DeepSeek's ``fp8``
(``weight_scale_inv``, which is multiplied all the same). A weight is number * scale, in float32.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.checkpoint import Reader, StoredTensor
from convert.errors import ConvertError
from convert.hparams import Config
from convert.tensors import Scale

SCALE_SUFFIXES = ("_scale", "_scale_inv")
# Scales of activations and of the KV cache, which llama.cpp has no use for.
DROPPED_SUFFIXES = (".input_scale", ".activation_scale", ".input_scale_ub", ".k_scale", ".v_scale")

_SCALE_DTYPES = ("F32", "BF16", "F16")


def read_block_size(config: Config) -> tuple[int, int] | None:
    """The block of a block-quantized checkpoint, None for other FP8 ones and for plain ones.

    Raises ConvertError if the checkpoint is quantized in any other way.
    """
    stated = config.raw("quantization_config") or config.text().raw("quantization_config")
    if not isinstance(stated, dict) or not stated:
        return None
    method, form = stated.get("quant_method"), stated.get("format", "float-quantized")
    is_compressed_fp8 = (method, form) == ("compressed-tensors", "float-quantized")
    if not is_compressed_fp8 and method not in ("fp8", "fbgemm_fp8"):
        raise ConvertError(
            f"{config.path}: the checkpoint is quantized ({method}, {form}), which is not read; "
            "convert from the BF16 checkpoint it was made from"
        )
    return _block_size(stated)


def _block_size(stated: dict[str, Any]) -> tuple[int, int] | None:
    blocks = [stated.get("weight_block_size")]
    for group in (stated.get("config_groups") or {}).values():
        blocks.append((group.get("weights") or {}).get("block_structure"))
    for block in blocks:
        if isinstance(block, list) and len(block) == 2:
            return int(block[0]), int(block[1])
    return None


def place_scale(weight: StoredTensor, scale: StoredTensor, block: tuple[int, int] | None) -> Scale:
    """How `scale` covers the matrix `weight`. Raises ConvertError if its shape does not fit."""
    n_rows, n_cols = weight.shape
    block_rows, block_cols = block or (0, 0)
    if scale.shape in ((), (1,), (1, 1)):
        block_rows, block_cols = n_rows, n_cols
    elif scale.shape in ((n_rows,), (n_rows, 1)):
        block_rows, block_cols = 1, n_cols
    elif not block or scale.shape != (-(-n_rows // block_rows), -(-n_cols // block_cols)):
        raise ConvertError(
            f"{scale.path}: {scale.name} of shape {list(scale.shape)} does not cover "
            f"{weight.name} {list(weight.shape)}"
        )
    if scale.dtype not in _SCALE_DTYPES:
        raise ConvertError(f"{scale.path}: {scale.name} is stored as {scale.dtype}")
    return Scale(scale, block_rows, block_cols, -(-n_cols // block_cols))


def multiply_rows(
    rows: NDArray[np.float32], stored_rows: NDArray[np.intp], scale: Scale, reader: Reader
) -> None:
    """Multiply `rows`, which are the rows `stored_rows` of their matrix, by their scales."""
    n_cols = rows.shape[1]
    blocks = stored_rows // scale.block_rows
    top = int(blocks.min())
    tall = _read(scale, top, int(blocks.max()) + 1, reader)[blocks - top]
    if scale.block_cols >= n_cols:
        rows *= tall
    else:
        rows *= tall.repeat(scale.block_cols, axis=1)[:, :n_cols]


def _read(scale: Scale, top: int, bottom: int, reader: Reader) -> NDArray[np.float32]:
    across, item = scale.n_blocks_across, scale.stored.item_bytes
    raw = bytearray((bottom - top) * across * item)
    reader.read_into(scale.stored, top * across * item, memoryview(raw))
    if scale.stored.dtype == "BF16":
        values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        values = np.frombuffer(raw, f"<f{item}").astype(np.float32)
    return values.reshape(-1, across)


@lru_cache(maxsize=1)
def e4m3_values() -> NDArray[np.float32]:
    """What each of the 256 codes of float8 e4m3fn stands for; 0x7F and 0xFF are NaN."""
    code = np.arange(256)
    exponent, mantissa = (code >> 3) & 15, (code & 7) / 8
    magnitude = np.where(exponent > 0, (1 + mantissa) * 2.0 ** (exponent - 7), mantissa * 2.0**-6)
    magnitude[(code & 0x7F) == 0x7F] = np.nan
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.float32)
