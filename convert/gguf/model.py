"""Reads a GGUF together with all the files it is split into."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.errors import ConvertError
from convert.gguf.file import GGUFFile, GGUFTensor, read_gguf

_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")


@dataclass(frozen=True)
class GGUFModel:
    """A GGUF with all its split files: the fields of the first file, the tensors of all."""

    files: tuple[Path, ...]
    fields: Mapping[str, Any]
    kinds: Mapping[str, str]
    tensors: Mapping[str, GGUFTensor]
    n_bytes: int  # of all the files


def read_model(path: Path) -> GGUFModel:
    """Read `path` and, if it is the first of several split files, the others in its directory.

    Raises ConvertError if one of them is missing, damaged, or belongs to another GGUF.
    """
    first = read_gguf(path)
    paths = _split_files(path, first)
    tensors = dict(first.tensors)
    for index, file in enumerate(paths[1:], 1):
        other = read_gguf(file)
        _check_split_file(file, other, index, len(paths))
        for name, tensor in other.tensors.items():
            if name in tensors:
                raise ConvertError(
                    f"{file}: holds {name}, and so does {tensors[name].path.name}: they are not "
                    "files of the same split model; fetch them again"
                )
            tensors[name] = tensor
    stated = first.fields.get("split.tensors.count", len(tensors))
    if len(paths) > 1 and stated != len(tensors):
        raise ConvertError(
            f"{path}: says that its {len(paths)} files hold {stated} tensors, but they hold "
            f"{len(tensors)}: they are not files of the same split model; fetch them again"
        )
    n_bytes = sum(file.stat().st_size for file in paths)
    return GGUFModel(tuple(paths), first.fields, first.kinds, tensors, n_bytes)


def _split_files(path: Path, first: GGUFFile) -> list[Path]:
    """All split files of which `path` is the first; only `path` if it is not split."""
    count, index = first.fields.get("split.count", 1), first.fields.get("split.no", 0)
    for key in ("split.count", "split.no"):
        if first.kinds.get(key, "u16") != "u16":
            raise ConvertError(f"{path}: {key} is of type {first.kinds[key]}, not u16")
    match = _PART.fullmatch(path.name)
    named = (int(match[2]) - 1, int(match[3])) if match else (0, 1)
    if count <= 1 and named[1] <= 1:
        return [path]
    if index != 0 or named[0] > 0:
        stem = match[1] if match else path.stem
        raise ConvertError(
            f"{path}: is file {max(index, named[0]) + 1} of {max(count, named[1])} of a split "
            f"model: give {stem}-00001-of-{max(count, named[1]):05}.gguf"
        )
    if match is None or named[1] != count:
        raise ConvertError(
            f"{path}: is the first of {count} split files under another name; rename it like the "
            f"others, with 00001-of-{count:05}"
        )
    paths = [path.with_name(f"{match[1]}-{n:05}-of-{count:05}.gguf") for n in range(1, count + 1)]
    for file in paths:
        if not file.exists():
            raise ConvertError(f"{file}: missing, one of {count} split files; fetch it")
    return paths


def _check_split_file(file: Path, other: GGUFFile, index: int, count: int) -> None:
    if other.kinds.get("split.no") != "u16":
        raise ConvertError(f"{file}: has no split.no, so it is not a split file; fetch it again")
    stated = (other.fields["split.no"], other.fields.get("split.count"))
    if stated != (index, count):
        raise ConvertError(
            f"{file}: its metadata say that it is file {stated[0] + 1} of {stated[1]}, its name "
            f"says {index + 1} of {count}; fetch it again"
        )
