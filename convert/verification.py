"""Compares a GGUF with the source it was made of: metadata, tensors, and every weight."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from math import sqrt
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from convert.checkpoint.checkpoint import Reader
from convert.errors import ConvertError
from convert.gguf.array import GGUFArray
from convert.gguf.fields import Field
from convert.gguf.file import GGUFTensor, read_gguf
from convert.gguf.ftypes import FTYPES, find_ftype
from convert.gguf.model import read_model
from convert.kernels.quantize import DEQUANTIZED_BY_GGML, dequantize_rows
from convert.types import Plan, PlannedTensor, Progress, TensorCheck, Verification
from convert.writing.pipeline import in_threads, open_sources
from convert.writing.resources import n_cpus
from convert.writing.tiles import Tile, cut, float32_blocks

# The largest relative RMSE that a qtype may have: about twice its error on normally distributed
# weights. That leaves room for heavy tails, but a wrong matrix (1.4) is found.
BOUNDS = {
    "F32": 0.0, "F16": 0.001, "BF16": 0.004, "Q8_0": 0.012, "Q6_K": 0.04, "Q5_K": 0.075,
    "Q5_1": 0.08, "Q5_0": 0.09, "Q4_K": 0.15, "Q4_1": 0.16, "Q4_0": 0.18, "IQ4_NL": 0.16,
    "IQ4_XS": 0.16, "NVFP4": 0.2, "MXFP4": 0.24, "Q3_K": 0.32, "IQ3_S": 0.35, "IQ3_XXS": 0.4,
    "IQ2_S": 0.5, "IQ2_XS": 0.6, "Q2_K": 0.6, "IQ2_XXS": 0.7, "IQ1_M": 0.9, "IQ1_S": 0.95,
    "TQ1_0": 0.95, "TQ2_0": 0.95, "Q2_0": 0.95, "Q1_0": 0.95,
}  # fmt: skip

_TILE_WEIGHTS = 1 << 20

# Metadata that decides how the model runs must be equal; metadata on its origin may differ.
_COMPARED_PREFIXES = ("general.architecture", "tokenizer.")

Sums = tuple[Tile, float, float]  # squared errors and squared weights of a tile


def check(
    plan: Plan, path: Path, *, threads: int | None, progress: Callable[[Progress], None] | None
) -> Verification:
    """See `convert.verify`."""
    if plan.shards is not None:
        raise ConvertError(f"{path}: verifying needs every shard on disk; fetch the checkpoint")
    model = read_model(path)
    fields, written = model.fields, model.tensors
    differences = [*_field_differences(plan, fields), *_layout_differences(plan, written)]
    checks: tuple[TensorCheck, ...] = ()
    if not any(difference.startswith("tensor") for difference in differences):
        checks = _check_tensors(plan, written, threads or n_cpus(), progress)
    return Verification(tuple(differences), checks)


def read_ftype(path: Path) -> str:
    """See `convert.file_type`."""
    stated = read_gguf(path).fields.get("general.file_type")
    for name in FTYPES:
        if find_ftype(name).id == stated:
            return name
    raise ConvertError(f"{path}: does not state its type; give --type")


def _field_differences(plan: Plan, actual: Mapping[str, Any]) -> Iterator[str]:
    prefixes = (*_COMPARED_PREFIXES, f"{plan.architecture}.")
    for key, field in plan.fields.items():
        if not key.startswith(prefixes):
            continue
        if key not in actual:
            yield f"metadata {key} is missing"
        elif not _is_same(field, actual[key]):
            yield f"metadata {key} differs"


def _is_same(field: Field, actual: Any) -> bool:
    if isinstance(field.value, float):
        return bool(np.float32(field.value) == np.float32(actual))
    if isinstance(field.value, (list, tuple)):
        return list(field.value) == list(actual)
    if isinstance(field.value, GGUFArray):
        return bool(field.value == actual)
    return bool(field.value == actual)


def _layout_differences(plan: Plan, actual: Mapping[str, GGUFTensor]) -> Iterator[str]:
    planned = {tensor.name: tensor for tensor in plan.tensors}
    for name in actual:
        if name not in planned:
            yield f"tensor {name} is not in the source"
    for name in planned:
        if name not in actual:
            yield f"tensor {name} is missing"
            continue
        ours, theirs = planned[name], actual[name]
        stands = f"{theirs.qtype} {list(theirs.shape)}"
        if stands != f"{ours.qtype} {list(ours.shape)}":
            yield f"tensor {name} is {stands}, not {ours.qtype} {list(ours.shape)}"


def _check_tensors(
    plan: Plan,
    actual: Mapping[str, GGUFTensor],
    threads: int,
    progress: Callable[[Progress], None] | None,
) -> tuple[TensorCheck, ...]:
    paths = {tensor.path for tensor in actual.values()}
    fds = {path: os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in paths}
    total, done = sum(tensor.n_bytes for tensor in plan.tensors), 0
    sums: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0, 0.0]))
    try:
        with open_sources(plan) as reader:

            def work(tile: Tile) -> Sums:
                written = actual[tile.tensor.name]
                start = written.offset - tile.tensor.offset
                data = _read(fds[written.path], written.path, start + tile.offset, tile)
                return _compare(tile, data, reader)

            tiles = (tile for tensor in plan.tensors for tile in cut(tensor, _TILE_WEIGHTS))
            with closing(in_threads(work, tiles, threads)) as finished:
                for tile, errors, weights in finished:
                    sums_of = sums[tile.tensor.name][tile.matrix]
                    sums_of[0] += errors
                    sums_of[1] += weights
                    done += tile.n_bytes
                    if progress is not None:
                        progress(Progress(done, total, tile.tensor.name))
    finally:
        for fd in fds.values():
            os.close(fd)
    return tuple(_judge(tensor, sums[tensor.name]) for tensor in plan.tensors)


def _read(fd: int, path: Path, offset: int, tile: Tile) -> NDArray[np.uint8]:
    raw = os.pread(fd, tile.n_bytes, offset)
    if len(raw) < tile.n_bytes:
        raise ConvertError(f"{path}: ends within {tile.tensor.name}; convert again")
    return np.frombuffer(raw, np.uint8).reshape(tile.n_rows, tile.row_bytes)


def _compare(tile: Tile, written: NDArray[np.uint8], reader: Reader) -> Sums:
    errors = weights = 0.0
    for first, block in float32_blocks(tile, reader):
        theirs = _dequantize(tile.tensor.qtype, written[first : first + len(block)])
        errors += float(np.square(theirs - block, dtype=np.float64).sum())
        weights += float(np.square(block, dtype=np.float64).sum())
    return tile, errors, weights


def _dequantize(qtype: str, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Dequantize with gguf's numpy code, which converting does not use, or else with ggml's."""
    if qtype in DEQUANTIZED_BY_GGML:
        return dequantize_rows(qtype, rows)
    result: NDArray[np.float32] = gguf.dequantize(rows, gguf.GGMLQuantizationType[qtype])
    return result


def _judge(tensor: PlannedTensor, matrices: Mapping[int, list[float]]) -> TensorCheck:
    relative = {
        matrix: sqrt(errors / weights) if weights else float(errors > 0)
        for matrix, (errors, weights) in matrices.items()
    }
    worst = max(relative, key=lambda matrix: relative[matrix])
    bound = BOUNDS[tensor.qtype]
    return TensorCheck(tensor.name, tensor.qtype, relative[worst], worst, bound)
