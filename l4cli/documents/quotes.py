"""Quotations from documents: a grammar that allows only real passages, and a search for them.

An answer ends in lines that begin with "> ". With `quote_constraint`, each of these lines has some
sentences of a document, word for word, so the model cannot invent them. `Quotes` finds a
passage in the documents, even if the model wrote it without the constraint, and tells its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from l4cli.documents.backing import WordCounts, shared
from l4cli.documents.document import Document, Place
from l4cli.documents.normalize import ACCENTS, CJK, Normalized, flowing, is_word
from l4cli.documents.sentences import paragraphs, sentences
from l4cli.engine.types import Constraint

QUOTE_MARK = "> "
QUOTES_LEAD = f"\n\n{QUOTE_MARK}"  # follows the answer's text; the constraint begins after it
MAX_QUOTES = 3
_MIN_CHARS, _MAX_CHARS = 20, 400  # of one quotation
# Building the automaton takes 2 s and 0.1 GB for a million characters. For longer documents, the
# constraint demands only the form of quotations, and `Quotes` checks them afterwards.
MAX_VERBATIM_CHARS = 4_000_000

# The units of a quotation from a sentence that is longer than a quotation may be: words, characters
# of scripts without spaces, and any other single character.
_CHUNK = re.compile(rf"[{CJK}]|(?:[^\W{CJK}]|[{ACCENTS}])+|.")
_QUOTE_LINES = re.compile(r"(?:\n|\A)((?:[ \t]*>[^\n]*(?:\n+|\Z))+)\s*\Z")


@dataclass(frozen=True, slots=True)
class Quotation:
    """A quotation in an answer.

    text: as in the answer.
    document: the document that contains it; None if no document does.
    start, end: offsets in the document's text.
    shared: numbers, names and rare words that it has in common with the answer; None if they were
        not compared.
    """

    text: str
    document: Document | None = None
    start: int = 0
    end: int = 0
    shared: tuple[str, ...] | None = None

    @property
    def is_proved(self) -> bool:
        return self.document is not None

    @property
    def original(self) -> str:
        """The passage as in the document; "" if no document contains it."""
        return self.document.text[self.start : self.end] if self.document else ""

    @property
    def place(self) -> Place:
        return self.document.place(self.start) if self.document else Place()

    def __str__(self) -> str:
        """The place in words, as in `manual.pdf, page 12, "Priming"`."""
        if not self.document:
            return "not in the documents"
        return ", ".join(part for part in (self.document.name, str(self.place)) if part)


class Quotes:
    """Finds quotations in documents."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = [(document, Normalized(document.text)) for document in documents]

    def find(self, text: str) -> Quotation:
        """Return the quotation with the first place, in the documents' order, that contains it."""
        quote = Normalized(text).text.strip()
        # The model may have added quotation marks around the passage.
        for wanted in (quote, quote.strip("\"'").strip()):
            if not wanted:
                break
            for document, content in self._documents:
                if span := _find(wanted, content):
                    return Quotation(text, document, *content.span(*span))
        return Quotation(text)

    def of_answer(self, answer: str) -> tuple[str, list[Quotation]]:
        """Return an answer's text, and the quotations at its end."""
        said, quotes = split_answer(answer)
        return said, [self.find(quote) for quote in quotes]


def split_answer(answer: str) -> tuple[str, list[str]]:
    """Return an answer's text, and the lines of quotations at its end."""
    block = _QUOTE_LINES.search(answer)
    if not block:
        return answer.strip(), []
    lines = [line.strip().lstrip(">").strip() for line in block[1].splitlines()]
    return answer[: block.start()].strip(), [line for line in lines if line]


def passages_sharing(
    texts: Sequence[str], answer: str, question: str, counts: WordCounts
) -> list[str]:
    """Return the sentences that have the most of the answer's numbers, names and rare words.

    They are one string each, in the documents' order; none if no sentence has any, or if the
    documents are too long to look through.
    """
    if sum(map(len, texts)) > MAX_VERBATIM_CHARS // 4:
        return []
    scored: list[tuple[int, str]] = []
    for text in texts:
        for paragraph in paragraphs(text):
            for sentence, _ in sentences(paragraph.strip()):
                line = flowing(sentence)
                if _MIN_CHARS <= len(line) <= _MAX_CHARS:
                    scored.append((len(shared(answer, line, question, counts) or ()), line))
    most = max((score for score, _ in scored), default=0)
    return list(dict.fromkeys(line for score, line in scored if score == most)) if most else []


def quote_constraint(texts: Sequence[str], *, max_quotes: int = MAX_QUOTES) -> Constraint:
    """Return the constraint for the text after QUOTES_LEAD: 1 to `max_quotes` passages of `texts`.

    A passage begins and ends with whole sentences and has 20 to 400 characters (fewer if no
    paragraph has 20); of a longer sentence it may be a part, in whole words. It lies within one
    paragraph, and has spaces in place of the paragraph's line breaks.
    """
    flows = [flow for text in texts for paragraph in paragraphs(text) if (flow := _flow(paragraph))]
    sizes = [sum(map(len, flow)) for flow in flows]
    least = min(_MIN_CHARS, max(sizes, default=_MIN_CHARS))
    shape = rf"[^\n]{{{least},{_MAX_CHARS}}}"
    if least > 2:  # no white space at either end
        shape = rf"[^\s][^\n]{{{least - 2},{_MAX_CHARS - 2}}}[^\s]"
    more = f'("\\n{QUOTE_MARK}" QUOTE)~0..{max_quotes - 1}'
    if sum(sizes) > MAX_VERBATIM_CHARS:
        return Constraint("lark", f"start: QUOTE {more}\nQUOTE: /{shape}/\n")
    chunks = [chunk for flow in flows for chunk in (*flow, "\n")]
    passages = json.dumps({"substring_chunks": chunks}, ensure_ascii=False)
    grammar = f"start: QUOTE {more}\nQUOTE: PASSAGE & /{shape}/\nPASSAGE: %regex {passages}\n"
    return Constraint("lark", grammar)


def _flow(paragraph: str) -> list[str]:
    """Return a paragraph as one line: its sentences and the spaces between them.

    A sentence that is too long for a quotation is divided into words.
    """
    units: list[str] = []
    for sentence, gap in sentences(paragraph.strip()):
        line = flowing(sentence)
        units += [line] if len(line) <= _MAX_CHARS else _CHUNK.findall(line)
        if gap and line:
            units.append(" ")
    return units


def _find(quote: str, content: Normalized) -> tuple[int, int] | None:
    """Return start and end of a quotation in a text, both in normal form, as whole words."""
    start = content.text.find(quote)
    while start >= 0:
        if _is_whole(content.text, start, start + len(quote)):
            return start, start + len(quote)
        start = content.text.find(quote, start + 1)
    return _find_divided(quote, content) if "-" in quote and content.joints else None


def _find_divided(quote: str, content: Normalized) -> tuple[int, int] | None:
    """Like `_find`, for a quotation that keeps a hyphen where normalizing the text removed it."""
    pattern = re.sub(r"(?<=\w)-(?:\\ )?(?=\w)", "(-? ?)", re.escape(quote).replace(r"\-", "-"))
    for match in re.finditer(pattern, content.text):
        left_out = [n for n, hyphen in enumerate(match.groups(), 1) if "-" not in hyphen]
        at_joints = all(match.start(n) in content.joints for n in left_out)
        if at_joints and _is_whole(content.text, *match.span()):
            return match.span()
    return None


def _is_whole(text: str, start: int, end: int) -> bool:
    """Whether neither end cuts a word."""
    return not any(
        0 < at < len(text) and is_word(text[at - 1]) and is_word(text[at]) for at in (start, end)
    )
