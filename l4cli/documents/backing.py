"""Compares a quotation with the answer that it should back. Pure.

A passage that shares no number, name or rare word with the answer may be in the document and still
not back the answer. This cannot prove that a passage does back it; only a reader can.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from itertools import takewhile

_MOST_CHARS = 1_000_000  # of all documents that word frequencies are counted over
_LEAST_LETTERS = 4  # of a word that tells something, unless it is a name
_COMMON_COUNT, _COMMON_SHARE = 5, 1 / 200  # a word this frequent in the documents is common

# Scripts whose words are not divided by spaces, or carry endings that differ: compared in pairs of
# characters. The first group is Chinese, Japanese and Korean; then Thai, Lao, Burmese and Khmer.
_PAIRED = (
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
)
_TOKEN = re.compile(
    rf"(?P<number>\d+(?:[.,'’\s]\d{{3}}(?!\d))*(?:[.,]\d+)?(?![^\W_]))"
    rf"|(?P<run>[{_PAIRED}]+)|(?P<word>(?:(?![{_PAIRED}])[^\W_])+)"
)
_HIRAGANA = re.compile("[\u3040-\u309f]+")
_GROUPING = re.compile(r"[.,'’\s](?=\d{3}(?!\d))")
_STARTS_SENTENCE = re.compile(r"(?:\A|[.!?:…\n])[\s\"'“”„«(\[>*-]*\Z")
# The frequent words of four and more letters, without accents.
_COMMON_WORDS = """
about above after again also although always among another because been before being below between
both cannot could does doing done down during each either else even every following from further
given have having here however into itself just least less like made make many might more most
much must need neither never nothing often once only other others otherwise over same shall should
since some such than that their theirs them then there therefore these they this those though
through thus under until upon used uses using very were what when where whether which while whose
will with within without would your aber alle allem allen aller alles andere anderen auch beim
bereits bevor dabei dadurch dafur damit danach dann daran darauf darf dass davon dazu deren desto
dich diese diesem diesen dieser dieses doch dort durch eben eine einem einen einer eines etwa
etwas fast ganz gegen gibt haben hatte hier hinter immer indem jede jedem jeden jeder jedes jedoch
jene kann kein keine keinen konnen machen mehr meist mussen muss nach nicht nichts noch nur oder
ohne schon sehr sein seine seinen seiner seit selbst sich sind sobald soll sollen sollte sondern
sowie uber unter viel vom vor wahrend waren weil weiter welche welcher wenn werden wird wieder
wurde wurden zwar zwischen afin ainsi alors apres aucun aussi autre autres avant avec avoir bien
cela cependant cette ceux chaque comme contre dans depuis dont donc elle elles encore entre etre
faire fait leur leurs lors mais meme moins notre nous parce pendant peut plus pour pourquoi puis
quand quel quelle quelque sans sera sont sous souvent suis tous tout toute toutes tres vers votre
vous algo alguno antes aquel aqui asimismo aunque cada como cuando cual cuales desde despues donde
durante ella ellos entonces esta estaba estan estar este esto estos fueron hacia hasta luego menos
mientras mismo mucho nada ningun nuestro nunca otra otras otro otros para pero poco porque pueden
puede pues quien segun siempre sino sobre solo tambien tanto tiene tienen toda todas todo todos
unas unos alla anche ancora avere cosi come della delle dello dentro dopo dove deve essere fatto
fino loro nella nelle nello ogni oppure perche piu poi prima puo quale quando quanto quella quello
questa queste questo quindi sono sopra stata stato sulla tutto tutti ainda algum aquela aquele
assim depois dessa desse dever eles enquanto essa esse estao foram isso isto mesmo muito nao
nenhum nossa nosso outra outro pela pelo pode podem porem qual quem seja sempre seus suas tambem
tem voce aan door deze dezen echter geen heeft hebben haar hoe ieder kunnen maar meer moet naar
niet omdat onder onze reeds tegen toch tussen twee veel voor waar wanneer wel werd worden wordt
zich zijn zonder zoals будет были было быть ведь весь всего даже если есть между может можно надо
него нужно однако около перед после потому почти поэтому свой себя только также тогда того тоже
чтобы этого этот
"""
_COMMON = frozenset(_COMMON_WORDS.split())


class WordCounts:
    """How often words occur in the documents; `is_common` tells which ones say little."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._counts: Counter[str] = Counter()
        room = _MOST_CHARS
        for text in texts:
            self._counts.update(word for word, _ in _words(text[:room]))
            room = max(0, room - len(text))
        self._least = max(_COMMON_COUNT, self._counts.total() * _COMMON_SHARE)

    def is_common(self, word: str) -> bool:
        return word in _COMMON or self._counts[word] >= self._least


_UNKNOWN = re.compile(
    r"\b(?:I|we) (?:do not|don't|cannot|can't|could not|couldn't) (?:know|say|tell|find|answer)\b"
    r"|\b(?:is|are|was|were) not (?:given|mentioned|stated|specified|provided|in the (?:text|docu))"
    r"|\b(?:does not|doesn't|do not|don't) (?:say|tell|mention|state|specify|contain|provide)\b"
    r"|\bich wei(?:ß|ss) (?:es |das )?nicht\b|\bje ne sais pas\b|\bno (?:lo )?sé\b",
    re.IGNORECASE,
)
_SHORT_ANSWER = 200  # characters; a longer one says something else as well


def says_unknown(answer: str) -> bool:
    """Whether an answer says that it does not know, so that no passage can back it.

    Only short answers without a number are taken for that: others say something that can be backed.
    """
    plain = answer.replace("\u2019", "'")
    has_number = any(char.isdecimal() for char in plain)
    return len(plain) <= _SHORT_ANSWER and not has_number and bool(_UNKNOWN.search(plain))


def shared(
    answer: str, passage: str, question: str = "", counts: WordCounts | None = None
) -> tuple[str, ...] | None:
    """Return the numbers, names and rare words that an answer and a passage have in common.

    What the question has said already counts only if the answer says nothing else. The words are
    in lower case, without accents. None if the answer has no such word to look for.

    counts: of the documents; common words in them are not rare.
    """
    counts = counts or WordCounts()
    names = _names(answer) | _names(passage)
    asked = _telling(question, names, counts)
    said = _telling(answer, names, counts)
    wanted = {one for one in said if not _has_like(one, asked)} or said or asked
    if not wanted:
        return None
    there = _telling(passage, names, counts)
    return tuple(sorted(one for one in wanted if _has_like(one, there)))


def _telling(text: str, names: set[str], counts: WordCounts) -> set[str]:
    """Return the numbers, names and rare words of a text."""
    return {
        word
        for word, kind in _words(text)
        if kind == "number"
        or word in names
        or (not counts.is_common(word) and (kind == "run" or _is_long(word)))
    }


def _is_long(word: str) -> bool:
    return len(word) >= _LEAST_LETTERS or any(char.isdigit() for char in word)


def _names(text: str) -> set[str]:
    """Return the words that begin with a capital letter within a sentence."""
    text = _plain(text)
    return {
        match["word"].casefold()
        for match in _TOKEN.finditer(text)
        if (match["word"] or "")[:1].isupper()
        and not _STARTS_SENTENCE.search(text, max(0, match.start() - 20), match.start())
    }


def _words(text: str) -> Iterable[tuple[str, str]]:
    """Yield a text's words and numbers in the form that is compared, each with its kind."""
    for match in _TOKEN.finditer(_plain(text)):
        if number := match["number"]:
            yield _GROUPING.sub("", number).replace(",", "."), "number"
        elif run := match["run"]:
            for start in range(max(1, len(run) - 1)):
                pair = run[start : start + 2]
                if not _HIRAGANA.fullmatch(pair):  # endings and particles
                    yield pair, "run"
        else:
            yield match["word"].casefold(), "word"


def _plain(text: str) -> str:
    """Return the text without accents, and with the digits 0 to 9 in place of other scripts'."""
    letters = unicodedata.normalize("NFKD", text)
    plain = "".join(
        str(unicodedata.decimal(char)) if char.isdecimal() else char
        for char in letters
        if not unicodedata.category(char).startswith("M")
    )
    return unicodedata.normalize("NFC", plain)


def _has_like(word: str, others: set[str]) -> bool:
    """Whether `others` has the word, also with another ending: prime, primed, priming."""
    if word in others:
        return True
    if not word.isalpha() or len(word) < _LEAST_LETTERS:
        return False
    return any(_is_form_of(word, other) for other in others)


def _is_form_of(word: str, other: str) -> bool:
    pairs = zip(word, other, strict=False)
    num_same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return num_same >= _LEAST_LETTERS and num_same >= 0.55 * max(len(word), len(other))
