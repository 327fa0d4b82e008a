"""Checks a checkpoint's model card before gguf reads it, which sets no bounds to what YAML says."""

from __future__ import annotations

import re
from pathlib import Path

import gguf

from convert.errors import ConvertError
from convert.reading import is_there, read_bytes

_MOST_CHARACTERS = 256 << 10  # of front matter; the YAML parser takes seconds for that
_MOST_LEVELS = 30  # of brackets; the parser looks at all open ones again at each word
# What may be an alias: a name that stands for a part stated before. A few lines of aliases for
# aliases stand for more than any memory holds.
_ALIAS = re.compile(r"(?:^|[\s\[{,:-])\*[^\s,\[\]{}]", re.MULTILINE)


def check_card(src: Path) -> None:
    """Raise ConvertError if README.md has front matter that would take long to read."""
    card = src / "README.md"
    if not is_there(card):
        return
    lines = read_bytes(card).decode("utf-8", "replace").splitlines()
    if lines[:1] != ["---"]:
        return
    end = lines.index("---", 1) if "---" in lines[1:] else len(lines)
    front = "\n".join(lines[1:end])
    if len(front) > _MOST_CHARACTERS:
        raise ConvertError(
            f"{card}: its front matter has {len(front):,} characters, and at most "
            f"{_MOST_CHARACTERS:,} are read; shorten or delete it"
        )
    if _levels(front) > _MOST_LEVELS:
        raise ConvertError(f"{card}: its front matter is nested too deeply; shorten or delete it")
    if _ALIAS.search(front) and _has_alias(card, front):
        raise ConvertError(f"{card}: its front matter has aliases (`*name`); write them out")


def _levels(front: str) -> int:
    """How many brackets are open at once, at most."""
    level = most = 0
    for bracket in re.findall(r"[\[\]{}]", front):
        level = level + 1 if bracket in "[{" else max(0, level - 1)
        most = max(most, level)
    return most


def _has_alias(card: Path, front: str) -> bool:
    yaml = gguf.metadata.yaml
    try:
        return any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(front))
    except (yaml.YAMLError, RecursionError):
        raise ConvertError(f"{card}: its front matter is not valid YAML; correct it") from None
