"""Documents of an exact number of tokens, with needles at their depths. Pure.

Tokens are counted by the functions passed in: of a sentence as it stands in the text, and of a
whole prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from l4cli.ctxtest.probes import Needle, Probe
from l4cli.ctxtest.wordings import filler, wordings
from l4cli.errors import UsageError

_NEEDLE_SHARE = 1 / 3  # of a document: the rest is filler
_PARAGRAPH = (3, 9)  # sentences
_ROUNDS = 8  # of counting the whole prompt and mending the difference

Count = Callable[[str], int]
CountPrompt = Callable[[str, str], int]  # of a head and a question


@dataclass(frozen=True, slots=True)
class Document:
    """A text with the probes whose needles are in it."""

    text: str
    probes: tuple[Probe, ...]

    @property
    def head(self) -> str:
        """What stands before every question, and is read once for all of them."""
        return f"{wordings()['intro']}\n\n{self.text}\n\n"


def make_documents(
    rng: Random,
    probes: Sequence[Probe],
    length: int,
    count_sentence: Count,
    count_prompt: CountPrompt,
) -> Iterator[Document]:
    """As few documents as hold all needles and are still mostly filler.

    The longest prompt of each, with room for its answer, has `length` tokens, or less by at most
    1% or a short sentence. UsageError where the length leaves no room.
    """
    for pack in _packs(probes, length * _NEEDLE_SHARE, count_sentence):
        yield _document(rng, pack, length, count_sentence, count_prompt)


def _packs(probes: Sequence[Probe], room: float, count: Count) -> list[list[Probe]]:
    """The probes divided so that the needles of each part fit the room, where that is possible."""
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
            f"--lengths: {length} tokens do not hold a needle, its question and an answer: "
            f"it takes {length - missing}"
        )
    tolerance = length // 100
    for _ in range(_ROUNDS):
        if 0 <= missing <= tolerance:
            break
        hay.resize(missing)
        document, missing = made()
    while missing < 0:  # sentences merge into other tokens than they have alone
        hay.resize(min(missing, -1))
        document, missing = made()
    return document


class _Hay:
    """Filler sentences with their tokens, and needles to stand among them."""

    def __init__(self, rng: Random, needles: Sequence[Needle], count: Count) -> None:
        self._rng, self._count = rng, count
        self._needles = [(needle, count(needle.text)) for needle in _by_depth(needles)]
        self._filler: list[tuple[str, int]] = []
        self._paragraphs = rng.randrange(1 << 30)

    def resize(self, num_tokens: int) -> None:
        """Add about so many tokens of filler, never more; take away at least as many if below 0."""
        while num_tokens < 0 and self._filler:
            num_tokens += self._filler.pop()[1]
        while num_tokens > 0:
            sentence, size = self._sentence(num_tokens)
            if size > num_tokens:
                return
            self._filler.append((sentence, size))
            num_tokens -= size

    def _sentence(self, room: int) -> tuple[str, int]:
        """A sentence that fits, or a short one."""
        for _ in range(4):
            sentence = filler().sentence(self._rng)
            if (size := self._count(sentence)) <= room:
                return sentence, size
        sentence = self._rng.choice(filler().short)
        return sentence, self._count(sentence)

    def text(self) -> str:
        """All sentences in paragraphs, each needle as near to its depth as a sentence's end is."""
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
    """In order of depth; those of one depth as they came, since links of a chain must follow."""
    return sorted(needles, key=lambda needle: needle.depth)


def _paragraphs(rng: Random, sentences: Sequence[str]) -> Iterator[str]:
    start = 0
    while start < len(sentences):
        stop = start + rng.randint(*_PARAGRAPH)
        yield " ".join(sentences[start:stop])
        start = stop
