"""Loads wordings.toml."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from l4cli.toml_files import read_toml


@dataclass(frozen=True, slots=True)
class Filler:
    """Filler sentences. They never contain an answer.

    sentences: sentence templates; the names in braces are keys of `words`.
    short: very short sentences, without braces.
    words: the words for each name in braces.
    """

    sentences: Sequence[str]
    short: Sequence[str]
    words: Mapping[str, Sequence[str]]

    def sentence(self, rng: Random) -> str:
        """Return a random sentence, with random words for the names in braces."""
        drawn = {name: rng.choice(choices) for name, choices in self.words.items()}
        text = rng.choice(self.sentences).format(**drawn)
        return text[0].upper() + text[1:]


@functools.cache
def wordings() -> Mapping[str, Any]:
    """Return the tables of wordings.toml."""
    return read_toml(Path(__file__).with_name("wordings.toml"))


@functools.cache
def filler() -> Filler:
    """Return the filler of wordings.toml."""
    return Filler(**wordings()["filler"])
