"""Calls llama.cpp's own quantizer, with the same options as `l4 convert`.

sums = make_sums(plan)                                  # name -> (in_sum2 [E, ne0], counts [E])
write_imatrix(path, sums)                               # the file, GGUF or legacy
quantize(base, "IQ2_XXS", sums=sums, imatrix=path)      # the bytes of llama.cpp's file
picked_types(hollow, "IQ2_XXS")                         # name -> qtype; needs no weights
block_size(12)                                          # weights and bytes of a block
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
from llama_cpp._ggml import libggml
from numpy.typing import NDArray

import convert
from convert.gguf.ftypes import find_ftype
from convert.gguf.qtypes import QTYPES
from convert.writing.layout import lay_out

Sums = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
Values = dict[str, NDArray[np.float32]]

DATASET, N_CHUNKS, CHUNK_SIZE = "calibration.txt", 7, 512

_LOG_LINE = re.compile(r"\] +(\S+) +- \[.*?type = +(\w+)")
_RESULT = re.compile(r"-> .*\((\w+)\)")

_silence = llama_cpp.llama_log_callback(lambda _level, _text, _data: None)


def block_size(type_id: int) -> tuple[int, int]:
    """Weights and bytes per block of ggml's type number `type_id`."""
    size, n_bytes = libggml.ggml_blck_size, libggml.ggml_type_size
    size.restype, n_bytes.restype = ctypes.c_int64, ctypes.c_size_t
    return size(ctypes.c_int(type_id)), n_bytes(ctypes.c_int(type_id))


def quantize(
    base: Path,
    ftype: str,
    *,
    sums: Sums | None = None,
    imatrix: Path | None = None,
    **options: Any,
) -> bytes:
    """The bytes of the file that llama.cpp makes of the GGUF `base`.

    sums: the importance matrix; None: none.
    imatrix: the name of its file, which goes into the metadata.
    options: the other fields of `convert.TypeOptions`, and `requantize`.
    """
    llama_cpp.llama_log_set(_silence, None)
    out = base.with_name(f"peer-{ftype}.gguf")
    values = None
    if sums is not None:
        values = {name: importance(*each) for name, each in sums.items()}
    status = _quantize(base, ftype, str(out), values, imatrix, **options)
    assert status == 0
    data = out.read_bytes()
    out.unlink()
    return data


def picked_types(
    base: Path, ftype: str, *, has_imatrix: bool = False, **options: Any
) -> dict[str, str]:
    """The qtype that llama.cpp chooses for every tensor of `base`, read from a dry run's log."""
    lines: list[bytes] = []
    log = llama_cpp.llama_log_callback(lambda _level, line, _data: lines.append(line))
    llama_cpp.llama_log_set(log, None)
    values = {"any": np.ones(1, np.float32)} if has_imatrix else None
    status = _quantize(base, ftype, os.devnull, values, dry_run=True, **options)
    llama_cpp.llama_log_set(_silence, None)
    text = b"".join(lines).decode().splitlines()
    assert status == 0, text[-3:]
    found: dict[str, str] = {}
    for line in text:
        if head := _LOG_LINE.search(line):
            result = _RESULT.search(line)
            found[head[1]] = (result[1] if result else head[2]).upper()
    return found


def write_hollow_gguf(path: Path, checkpoint: Path) -> Path:
    """Write the F32 GGUF of a checkpoint of any size: a header, and a hole in a sparse file."""
    plan = convert.plan(checkpoint, "F32")
    with path.open("wb") as file:
        file.write(lay_out(plan, path).files[0].header)
        file.truncate(plan.n_bytes)
    return path


def importance(sums: NDArray[np.float32], counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """The importances llama-quantize makes of an entry: means; ones if an expert saw no token."""
    with np.errstate(all="ignore"):
        means = sums / counts[:, None]
    return np.where(counts[:, None] > 0, means, np.float32(1))


def make_sums(plan: convert.Plan) -> Sums:
    """An entry for every matrix of every block. The second expert of block 0 saw no token."""
    stream = np.random.RandomState(0)
    sums: Sums = {}
    for tensor in plan.tensors:
        if len(tensor.shape) < 2 or not tensor.name.startswith("blk."):
            continue
        n_matrices = tensor.shape[2] if len(tensor.shape) > 2 else 1
        means = np.exp(stream.standard_normal((n_matrices, tensor.shape[0]))).astype(np.float32)
        counts = np.full(n_matrices, 1000, np.float32)
        if n_matrices > 1 and tensor.name.startswith("blk.0."):
            counts[1] = 0
        sums[tensor.name] = (means * counts[:, None], counts)
    return sums


def write_imatrix(path: Path, sums: Sums) -> Path:
    """Write an imatrix file as llama-imatrix does."""
    writer = gguf.GGUFWriter(path, "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", [DATASET])
    writer.add_uint32("imatrix.chunk_count", N_CHUNKS)
    writer.add_uint32("imatrix.chunk_size", CHUNK_SIZE)
    for name, (values, counts) in sums.items():
        writer.add_tensor(f"{name}.in_sum2", values)
        writer.add_tensor(f"{name}.counts", counts[:, None])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_legacy_imatrix(path: Path, sums: Sums, *, n_calls: int = 5) -> Sums:
    """Write an imatrix file in the legacy format.

    Return what it then holds: the means times `n_calls`, with `n_calls` as every count.
    """
    parts, kept = [struct.pack("<i", len(sums))], {}
    for name, each in sums.items():
        scaled = importance(*each) * np.float32(n_calls)
        kept[name] = (scaled, np.full(len(scaled), n_calls, np.float32))
        raw = name.encode()
        parts.append(struct.pack(f"<i{len(raw)}sii", len(raw), raw, n_calls, scaled.size))
        parts.append(scaled.tobytes())
    raw = DATASET.encode()
    parts.append(struct.pack(f"<ii{len(raw)}s", N_CHUNKS, len(raw), raw))
    path.write_bytes(b"".join(parts))
    return kept


def _quantize(
    base: Path,
    ftype: str,
    out: str,
    values: Values | None,
    imatrix: Path | None = None,
    *,
    dry_run: bool = False,
    requantize: bool = False,
    pure: bool = False,
    tensor_types: tuple[tuple[str, str], ...] = (),
    output_tensor_type: str | None = None,
    token_embedding_type: str | None = None,
) -> int:
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = find_ftype(ftype).id, 2
    params.dry_run, params.pure, params.allow_requantize = dry_run, pure, requantize
    if output_tensor_type:
        params.output_tensor_type = QTYPES[output_tensor_type].id
    if token_embedding_type:
        params.token_embedding_type = QTYPES[token_embedding_type].id
    patterns = [
        llama_cpp.llama_model_tensor_override(pattern.encode(), QTYPES[qtype].id)
        for pattern, qtype in tensor_types
    ]
    overrides = _terminated(patterns, llama_cpp.llama_model_tensor_override)
    params.tt_overrides = overrides
    entries, metadata = _imatrix_data(values or {}), _metadata(str(imatrix), len(values or {}))
    if values is not None:
        params.imatrix, params.kv_overrides = entries, metadata
    status: int = llama_cpp.llama_model_quantize(
        str(base).encode(), out.encode(), ctypes.byref(params)
    )
    return status


def _imatrix_data(values: Values) -> Any:
    pointer = ctypes.POINTER(ctypes.c_float)
    entries = [
        llama_cpp.llama_model_imatrix_data(name.encode(), each.ctypes.data_as(pointer), each.size)
        for name, each in values.items()
    ]
    return _terminated(entries, llama_cpp.llama_model_imatrix_data)


def _metadata(imatrix: str, n_entries: int) -> Any:
    """The metadata on the imatrix, which the tool llama-quantize adds (not the library)."""
    overrides = []
    for key, value in (
        ("file", imatrix),
        ("dataset", DATASET),
        ("entries_count", n_entries),
        ("chunks_count", N_CHUNKS),
    ):
        override = llama_cpp.llama_model_kv_override()
        override.key = f"quantize.imatrix.{key}".encode()
        if isinstance(value, str):
            override.tag, override.value.val_str = 3, value.encode()
        else:
            override.tag, override.value.val_i64 = 0, value
        overrides.append(override)
    return _terminated(overrides, llama_cpp.llama_model_kv_override)


def _terminated(items: list[Any], kind: Any) -> Any:
    return (kind * (len(items) + 1))(*items)
