"""Decides which of the expected values an answer contains. This module is pure."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from l4cli.ctxtest.probes import Probe


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer to a probe, and for each expected value of the probe whether the answer has it."""

    probe: Probe
    answer: str
    found: tuple[bool, ...]

    @property
    def score(self) -> float:
        """The share of the values that were found."""
        return sum(self.found) / len(self.found)


def judge(probe: Probe, answer: str) -> Judged:
    """Judge an answer: a value is found if the answer has it as a whole word.

    Case, character width and thousands separators do not matter. If the answer also names a decoy,
    nothing is found, because the model did not tell right values from wrong ones.
    """
    text = _normalised(answer)
    astray = any(_holds(text, decoy) for decoy in probe.decoys)
    found = tuple(not astray and _holds(text, value) for value, _ in probe.expected)
    return Judged(probe, answer, found)


def _holds(text: str, value: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(_normalised(value))}(?!\w)", text) is not None


def _normalised(text: str) -> str:
    """Remove differences of case, character width and thousands separators."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"(?<=\d)[,\u202f\u00a0'](?=\d{3}\b)", "", text)
