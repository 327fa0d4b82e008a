"""Makes documents of an exact number of tokens, with needles at given depths.

This module is pure. Two functions that count tokens are passed in: one for a sentence within a
text, one for a whole prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from l4cli.amounts import tokens
from l4cli.ctxtest.probes import Needle, Probe
from l4cli.ctxtest.wordings import filler, wordings
from l4cli.errors import UsageError

_NEEDLE_SHARE = 1 / 3  # the most of a document that needles take; the rest is filler
_PARAGRAPH = (3, 9)  # sentences, at least and at most
_ROUNDS = 8  # the most rounds of counting the whole prompt and correcting its length

Count = Callable[[str], int]
CountPrompt = Callable[[str, str], int]  # of a head and a question


@dataclass(frozen=True, slots=True)
class Document:
    """A text, and the probes whose needles it contains."""

    text: str
    probes: tuple[Probe, ...]

    @property
    def head(self) -> str:
        """The prompt up to the question. It is computed once for all questions."""
        return f"{wordings()['intro']}\n\n{self.text}\n\n"


def make_documents(
    rng: Random,
    probes: Sequence[Probe],
    length: int,
    count_sentence: Count,
    count_prompt: CountPrompt,
) -> Iterator[Document]:
    """Yield as few documents as can hold all needles and still be mostly filler.

    rng: the source of randomness.
    probes: the needles and questions.
    length: the tokens of each document's longest prompt, together with its answer. A document may
        have up to 1%, or one short sentence, less.
    count_sentence: counts the tokens of a sentence within a text.
    count_prompt: counts the tokens of a prompt, given its head and question.

    Raises UsageError if `length` is too small.
    """
    for pack in _packs(probes, length * _NEEDLE_SHARE, count_sentence):
        yield _document(rng, pack, length, count_sentence, count_prompt)


def _packs(probes: Sequence[Probe], room: float, count: Count) -> list[list[Probe]]:
    """Divide the probes into packs whose needles have at most `room` tokens.

    A single probe with larger needles gets a pack of its own.
    """
    packs: list[list[Probe]] = []
    left = 0.0
    for probe in probes:
        size = sum(count(needle.text) for needle in probe.needles)
        if not packs or size > left:
            packs.append([])
            left = room
        packs[-1].append(probe)
        left -= size
    return packs


def _document(
    rng: Random, probes: Sequence[Probe], length: int, count: Count, count_prompt: CountPrompt
) -> Document:
    needles = [needle for probe in probes for needle in probe.needles]
    hay = _Hay(rng, needles, count)
    longest = max(probes, key=lambda probe: probe.max_tokens + count(probe.question))

    def made() -> tuple[Document, int]:
        document = Document(hay.text(), tuple(probes))
        num_tokens = count_prompt(document.head, longest.question) + longest.max_tokens
        return document, length - num_tokens

    document, missing = made()
    if missing < 0:
        raise UsageError(
            f"--lengths: {tokens(length)} tokens are too few for a needle, its question and an "
            f"answer: give at least {length - missing}"
        )
    tolerance = length // 100
    for _ in range(_ROUNDS):
        if 0 <= missing <= tolerance:
            break
        hay.resize(missing)
        document, missing = made()
    while missing < 0:  # in a text, sentences can have other tokens than alone
        hay.resize(min(missing, -1))
        document, missing = made()
    return document


class _Hay:
    """Filler sentences and needles, with their token counts."""

    def __init__(self, rng: Random, needles: Sequence[Needle], count: Count) -> None:
        self._rng, self._count = rng, count
        self._needles = [(needle, count(needle.text)) for needle in _by_depth(needles)]
        self._filler: list[tuple[str, int]] = []
        self._paragraphs = rng.randrange(1 << 30)

    def resize(self, num_tokens: int) -> None:
        """Add at most `num_tokens` tokens of filler; if negative, remove at least as many."""
        while num_tokens < 0 and self._filler:
            num_tokens += self._filler.pop()[1]
        while num_tokens > 0:
            sentence, size = self._sentence(num_tokens)
            if size > num_tokens:
                return
            self._filler.append((sentence, size))
            num_tokens -= size

    def _sentence(self, room: int) -> tuple[str, int]:
        """Return a sentence of at most `room` tokens, or else a short one, with its tokens."""
        for _ in range(4):
            sentence = filler().sentence(self._rng)
            if (size := self._count(sentence)) <= room:
                return sentence, size
        sentence = self._rng.choice(filler().short)
        return sentence, self._count(sentence)

    def text(self) -> str:
        """Return all sentences in paragraphs, each needle at the sentence end nearest its depth."""
        total = sum(size for _, size in (*self._filler, *self._needles))
        sentences: list[str] = []
        needles = list(self._needles)
        so_far = 0
        for sentence, size in self._filler:
            while needles and needles[0][0].depth * total <= so_far + size / 2:
                needle, needle_size = needles.pop(0)
                sentences.append(needle.text)
                so_far += needle_size
            sentences.append(sentence)
            so_far += size
        sentences += [needle.text for needle, _ in needles]
        return "\n\n".join(_paragraphs(Random(self._paragraphs), sentences))


def _by_depth(needles: Sequence[Needle]) -> list[Needle]:
    """Sort by depth. Needles of one depth keep their order, which the links of a chain need."""
    return sorted(needles, key=lambda needle: needle.depth)


def _paragraphs(rng: Random, sentences: Sequence[str]) -> Iterator[str]:
    start = 0
    while start < len(sentences):
        stop = start + rng.randint(*_PARAGRAPH)
        yield " ".join(sentences[start:stop])
        start = stop
