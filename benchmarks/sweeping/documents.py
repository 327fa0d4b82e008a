"""Documents: each is read as `l4 ask` and `l4 docs text` read it, or refused in a line."""

from __future__ import annotations

import re
from pathlib import Path

import odd_archives
import odd_documents
import odd_encodings

from benchmarks.sweeping.trial import FINE, REFUSED, Ended, Trial
from l4cli.documents.ingest import document_of
from l4cli.errors import InputError

_MARKS = re.compile("[\ufdd0-\ufdd4]")  # readers put these between pieces of text, and remove them
_MOST_CHARACTERS = 400  # of a line that refuses a document


def documents(_scratch: Path) -> Trial:
    return lambda seed: read(*odd_documents.member(seed))


def archives(_scratch: Path) -> Trial:
    return lambda seed: read(*odd_archives.member(seed))


def encodings(_scratch: Path) -> Trial:
    def trial(seed: int) -> Ended:
        name, data, text = odd_encodings.member(seed)
        ended = read(name, data)
        if text is None or ended.finding:
            return ended
        if ended == REFUSED or text not in document_of(data, name).text:
            return Ended(finding=f"{name}: {text!r} is not in what is read")
        return FINE

    return trial


def read(name: str, data: bytes) -> Ended:
    """Read a document, and find its last place."""
    try:
        document = document_of(data, name)
    except InputError as error:
        return _judged(name, str(error))
    document.place(len(document.text))
    is_converted = name.endswith((".html", ".docx", ".epub", ".pdf"))
    if is_converted and _MARKS.search(document.text):
        return Ended(finding=f"{name}: a reader's own mark is in the text")
    return FINE


def _judged(name: str, line: str) -> Ended:
    if "reader crashed" in line:
        return Ended(finding=line)
    if not line.startswith(name) or "\n" in line or len(line) > _MOST_CHARACTERS:
        return Ended(finding=f"refused with {line!r}")
    return REFUSED
