"""Names of the files that a GGUF is split into: STEM-00001-of-00003.gguf and so on."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_SPLIT = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)


class SplitName(NamedTuple):
    """File `number`, counted from 1, of `total`; `stem` is what all their names begin with."""

    stem: str
    number: int
    total: int

    def other(self, number: int) -> str:
        """The name of another file of the same split."""
        return f"{self.stem}-{number:05}-of-{self.total:05}.gguf"


def split_name(name: str) -> SplitName | None:
    """What the name of a file says of a split; None if it is not one of its files."""
    match = _SPLIT.fullmatch(name)
    return SplitName(match[1], int(match[2]), int(match[3])) if match else None


def split_files(first: Path) -> list[Path]:
    """The files of a model that begins with this one: itself alone unless it is split."""
    named = split_name(first.name)
    if named is None:
        return [first]
    pattern = f"{glob.escape(named.stem)}-?????-of-{named.total:05}.gguf"
    return sorted(first.parent.glob(pattern))


def missing_files(files: Iterable[str]) -> list[str]:
    """The names of files that a split model's files call for and that are not among them."""
    files = list(files)
    missing: list[str] = []
    for file in files:
        if named := split_name(file):
            wanted = map(named.other, range(1, named.total + 1))
            missing += [name for name in wanted if name not in files and name not in missing]
    return missing
