"""Decides which files an output consists of, and where its tensor data lies in them. Pure.

An output is one file, or the split files that llama.cpp's ``gguf-split`` would make of it, named
NAME-00001-of-0000N.gguf. The first split file holds the metadata; each holds the keys ``split.no``,
``split.tensors.count`` and ``split.count``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from convert.errors import ConvertError
from convert.gguf.fields import Field, TensorInfo, align, encode_header, i32, u16
from convert.gguf.qtypes import QTYPES
from convert.types import Plan, PlannedTensor, Split

_MAX_FILES = 65_535  # split.count is 16 bits wide


@dataclass(frozen=True)
class FileLayout:
    """One file: its header, then `n_data` bytes of the plan's tensor data from byte `first` on."""

    path: Path
    header: bytes = field(repr=False)
    first: int
    n_data: int

    @property
    def n_bytes(self) -> int:
        return len(self.header) + self.n_data


@dataclass(frozen=True)
class Layout:
    """The files of the output `path`: the file of that name, or the split files named after it."""

    path: Path
    files: tuple[FileLayout, ...]

    @property
    def n_bytes(self) -> int:
        return sum(file.n_bytes for file in self.files)

    def place(self, offset: int) -> tuple[int, int]:
        """The index of the file with byte `offset` of the tensor data, and its position there."""
        index = bisect_right(self.files, offset, key=lambda file: file.first) - 1
        file = self.files[index]
        return index, len(file.header) + offset - file.first


def lay_out(plan: Plan, path: Path, split: Split | None = None) -> Layout:
    """The files that `plan` is written to under the name `path`.

    split: how to cut the output; None: one file.

    Raises ConvertError if a single tensor is larger than `split` allows a file to be, or if there
    would be more files than GGUF can number.
    """
    if split is None:
        header = encode_tensors(plan.fields, plan.tensors)
        return Layout(path, (FileLayout(path, header, 0, _n_data(plan.tensors)),))
    groups = list(_groups(plan, split))
    if len(groups) > _MAX_FILES:
        raise ConvertError(f"{path}: would be {len(groups):,} files; let each hold more")
    return Layout(path, tuple(_split_files(plan, path, groups)))


def _split_files(
    plan: Plan, path: Path, groups: list[tuple[PlannedTensor, ...]]
) -> Iterator[FileLayout]:
    stem = path.with_suffix("") if path.suffix == ".gguf" else path
    for index, tensors in enumerate(groups):
        fields: dict[str, Field] = {
            **(plan.fields if index == 0 else {}),
            "split.no": u16(index),
            "split.tensors.count": i32(len(plan.tensors)),
            "split.count": u16(len(groups)),
        }
        name = f"{stem.name}-{index + 1:05}-of-{len(groups):05}.gguf"
        header = encode_tensors(fields, tensors)
        yield FileLayout(stem.with_name(name), header, tensors[0].offset, _n_data(tensors))


def _groups(plan: Plan, split: Split) -> Iterator[tuple[PlannedTensor, ...]]:
    """The tensors of each split file: as many as fit. Headers are not counted, as in gguf-split."""
    group: list[PlannedTensor] = []
    n_bytes = 0
    for tensor in plan.tensors:
        size = align(tensor.n_bytes)
        if split.max_bytes is not None and size > split.max_bytes:
            raise ConvertError(
                f"{tensor.name} takes {size:,} bytes, more than a file of {split.max_bytes:,} "
                "can hold; split into larger files"
            )
        is_full = (split.max_bytes is not None and n_bytes + size > split.max_bytes) or (
            split.max_tensors is not None and len(group) == split.max_tensors
        )
        if group and is_full:
            yield tuple(group)
            group, n_bytes = [], 0
        group.append(tensor)
        n_bytes += size
    yield tuple(group)


def encode_tensors(fields: Mapping[str, Field], tensors: tuple[PlannedTensor, ...]) -> bytes:
    """The header of a file that holds these consecutive tensors of a plan."""
    first = tensors[0].offset
    infos = (TensorInfo(t.name, t.shape, QTYPES[t.qtype].id, t.offset - first) for t in tensors)
    return encode_header(fields, infos)


def _n_data(tensors: tuple[PlannedTensor, ...]) -> int:
    return tensors[-1].offset + align(tensors[-1].n_bytes) - tensors[0].offset
