"""Which of the expected values an answer holds. Pure."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from l4cli.ctxtest.probes import Probe


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer to a probe, and for each of its expected values whether it was found."""

    probe: Probe
    answer: str
    found: tuple[bool, ...]

    @property
    def score(self) -> float:
        """The share of the values that were found."""
        return sum(self.found) / len(self.found)


def judge(probe: Probe, answer: str) -> Judged:
    """A value is found where it stands in the answer as a word of its own, however written.

    An answer that names a wrong value of the kind found nothing: it has not told them apart.
    """
    text = _normalised(answer)
    astray = any(_holds(text, decoy) for decoy in probe.decoys)
    found = tuple(not astray and _holds(text, value) for value, _ in probe.expected)
    return Judged(probe, answer, found)


def _holds(text: str, value: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(_normalised(value))}(?!\w)", text) is not None


def _normalised(text: str) -> str:
    """Without differences of case, width and thousands' commas."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"(?<=\d)[,\u202f\u00a0'](?=\d{3}\b)", "", text)
