"""wordings.toml as values."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from l4cli.models.registry import read_toml


@dataclass(frozen=True, slots=True)
class Filler:
    """Sentences that say nothing which is asked for."""

    sentences: Sequence[str]
    short: Sequence[str]
    words: Mapping[str, Sequence[str]]

    def sentence(self, rng: Random) -> str:
        """One of them, with words drawn for its braces."""
        drawn = {name: rng.choice(choices) for name, choices in self.words.items()}
        text = rng.choice(self.sentences).format(**drawn)
        return text[0].upper() + text[1:]


@functools.cache
def wordings() -> Mapping[str, Any]:
    """The tables of wordings.toml."""
    return read_toml(Path(__file__).with_name("wordings.toml"))


@functools.cache
def filler() -> Filler:
    return Filler(**wordings()["filler"])
