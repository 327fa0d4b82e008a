"""Names of a GGUF's split files: STEM-00001-of-00003.gguf and so on."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_SPLIT = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)


class SplitName(NamedTuple):
    """The name of split file `number`, counted from 1, of `total`; all names begin with `stem`."""

    stem: str
    number: int
    total: int

    def other(self, number: int) -> str:
        """Return the name of another split file of the same GGUF."""
        return f"{self.stem}-{number:05}-of-{self.total:05}.gguf"


def split_name(name: str) -> SplitName | None:
    """Parse a split file's name; None if it is not the name of a split file."""
    match = _SPLIT.fullmatch(name)
    return SplitName(match[1], int(match[2]), int(match[3])) if match else None


def split_files(first: Path) -> list[Path]:
    """Return the files of the GGUF whose first file this is: itself alone unless it is split."""
    named = split_name(first.name)
    if named is None:
        return [first]
    pattern = f"{glob.escape(named.stem)}-?????-of-{named.total:05}.gguf"
    return sorted(first.parent.glob(pattern))


def missing_files(files: Iterable[str]) -> list[str]:
    """Return the names of split files that are missing from `files`."""
    files = list(files)
    missing: list[str] = []
    for file in files:
        if named := split_name(file):
            wanted = map(named.other, range(1, named.total + 1))
            missing += [name for name in wanted if name not in files and name not in missing]
    return missing
