"""Divides a paragraph into sentences. Pure.

When it is not clear that a sentence ends, as after an abbreviation, an initial or a short number,
it goes on. Then two sentences stay together, which does no harm to a quotation; half a sentence
would.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from l4cli.documents.normalize import CJK

_CLOSING = "'\"“”‘’«»‹›)\\]』」）］】"
_END = re.compile(
    rf"(?P<wide>[。！？｡।॥۔؟։።။])[{_CLOSING}]*(?P<after>\s*)"
    rf"|(?P<mark>[.!?…]+)[{_CLOSING}]*\s+"
    # A line that begins an item, a table's row, a heading or a quotation.
    r"|(?P<line>\n)(?=[ \t]*(?:[-*•‣◦]\s|\||\#{1,6}\s|>))"
    r"|(?<=[.!?:;…])(?P<item>\s*\n)(?=[ \t]*\(?[a-z0-9]{1,2}[.)]\s)"
)
_OPENING = " \t\n'\"“”„‘’«‹(\\[『「（【*_"
_HIRAGANA = re.compile("[\u3040-\u309f]")
_LAST_WORD = re.compile(r"[^\s(\[\"'“„«]*$")
_ABBREVIATIONS_WORDS = """
al apr approx aug ave ca cap cf ch co col corp dec dept dr ed eds eq est etc ex fig figs feb gen
gov hon inc jan jr jul jun lt ltd mar max min mr mrs ms mt no nos nov oct op par para pp prof pt
ref rev sec sen sep sept sr st tab tel vol vols vs abb abs allg anm art aufl bd bsp bzgl bzw dipl
evtl geb gem ggf hrsg inkl ing jh kap lfd mind mio mrd nr rd sog spez str tsd usw verf vgl zz zzgl
av bull chap env fasc mgr mlle mm mme mmes suiv avda dra núm pág págs sra srta tít dott dss ecc
egr gent pag pagg sig sigg aprox fls num séc блг гл гор им млн млрд обл рис см ср стр табл тыс ул
"""
_ABBREVIATIONS = frozenset(_ABBREVIATIONS_WORDS.split())


def sentences(paragraph: str) -> list[tuple[str, str]]:
    """Return the sentences with the white space after each; together they are the paragraph."""
    pieces, start = [], 0
    for end, gap in _ends(paragraph):
        pieces.append((paragraph[start:end], paragraph[end : end + gap]))
        start = end + gap
    if start < len(paragraph):
        pieces.append((paragraph[start:], ""))
    return pieces


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs; one that a page's end has divided in mid-sentence is whole."""
    whole: list[str] = []
    for piece in re.split(r"(\n\s*\n)", text):
        goes_on = piece[:1].islower() and len(whole) > 1 and _is_open(whole[-2])
        if goes_on:
            gap = whole.pop()
            whole[-1] += gap + piece
        else:
            whole.append(piece)
    return [piece for piece in whole if piece.strip()]


def _is_open(paragraph: str) -> bool:
    """Whether a paragraph ends like the middle of a sentence: with a letter or a comma."""
    last = paragraph.rstrip()[-1:]
    return last.isalpha() or last in {",", "-", "\u00ad"}


def _ends(text: str) -> Iterator[tuple[int, int]]:
    """Yield the ends of all sentences but the last, each with the length of the white space."""
    for match in _END.finditer(text):
        if match.end() >= len(text) or match.start() == 0:
            continue
        body = match[0].rstrip()
        if match["line"] or match["item"] or _is_end(text, match):
            yield match.start() + len(body), len(match[0]) - len(body)


def _is_end(text: str, match: re.Match[str]) -> bool:
    """Whether a sentence ends with this mark."""
    if match["wide"]:
        # 「行く。」と言った goes on after the quotation mark.
        is_quoted = len(match[0].rstrip()) > 1
        return not (is_quoted and not match["after"] and _HIRAGANA.match(text, match.end()))
    rest = text[match.end() : match.end() + 40].lstrip(_OPENING)
    if rest[:1].islower():
        return False
    if match["mark"] != ".":
        return True
    before = _LAST_WORD.search(text[max(0, match.start() - 40) : match.start()])
    word = before[0] if before else ""
    is_short = len(word) < 2 and not re.match(f"[{CJK}]", word)
    is_ordinal = word.isdecimal() and len(word) < 3
    return not (is_short or is_ordinal or "." in word or word.casefold() in _ABBREVIATIONS)
