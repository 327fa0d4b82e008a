"""Converts the bytes of a file to a document, with the reader of its format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from l4cli.documents.document import Document
from l4cli.documents.formats.converted import Text
from l4cli.documents.formats.recognize import format_of
from l4cli.documents.markdown import headings_of
from l4cli.documents.text import decode, unix_lines
from l4cli.errors import InputError


class EmptyDocumentError(InputError):
    """A file without any visible character."""


@dataclass(frozen=True, slots=True)
class Read:
    """A document, and what its reader has to tell.

    left_out: how many things of each kind it lacks. notes: whole lines for the user.
    """

    document: Document
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()


def convert(data: bytes, name: str) -> Read:
    """Convert a file's bytes to a document. Raises InputError, which begins with `name`."""
    return _not_empty(_READERS[format_of(data, name)](data, name))


def plain_text(data: bytes, name: str) -> Read:
    """Convert the bytes of a text file. Raises InputError, which begins with `name`."""
    return _not_empty(_text(data, name))


def _not_empty(read: Read) -> Read:
    if not read.document.text.strip():
        raise EmptyDocumentError(f"{read.document.name}: the file is empty")
    return read


def _text(data: bytes, name: str) -> Read:
    return Read(Document(name, unix_lines(decode(data, name)), has_lines=True))


def _markdown(data: bytes, name: str) -> Read:
    text = unix_lines(decode(data, name))
    return Read(Document(name, text, headings=headings_of(text), has_lines=True))


def _html(data: bytes, name: str) -> Read:
    from l4cli.documents.formats.html.convert import html_to_markdown
    from l4cli.documents.formats.html.encodings import decode_page

    return _converted(name, html_to_markdown(decode_page(data, name), name))


def _docx(data: bytes, name: str) -> Read:
    from l4cli.documents.formats.word.convert import docx_to_markdown

    return _converted(name, docx_to_markdown(data, name))


def _epub(data: bytes, name: str) -> Read:
    from l4cli.documents.formats.epub import epub_to_markdown

    return _converted(name, epub_to_markdown(data, name))


def _notebook(data: bytes, name: str) -> Read:
    from l4cli.documents.formats.notebook import notebook_to_markdown

    return _converted(name, notebook_to_markdown(data, name))


def _converted(name: str, text: Text) -> Read:
    """Return a document whose lines differ from the file's lines."""
    document = Document(name, text.text, headings=headings_of(text.text))
    return Read(document, dict(text.left_out))


def _pdf(data: bytes, name: str) -> Read:
    from l4cli.documents.formats.pdf.convert import read_pdf

    pdf = read_pdf(data, name)
    notes = []
    if pdf.scanned:
        notes.append(
            f"{name}: no text on {len(pdf.scanned)} of {len(pdf.pages)} pages "
            f"({_ranges(pdf.scanned)}): these may be scanned"
        )
    document = Document(name, pdf.text, pages=pdf.pages, headings=pdf.headings)
    return Read(document, {"picture": pdf.num_pictures, "attached file": pdf.num_files}, notes)


_READERS: dict[str, Callable[[bytes, str], Read]] = {
    "text": _text,
    "markdown": _markdown,
    "html": _html,
    "docx": _docx,
    "epub": _epub,
    "pdf": _pdf,
    "notebook": _notebook,
}


def _ranges(numbers: Sequence[int]) -> str:
    """Return page numbers as ranges: 3, 7-9."""
    runs = []
    for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        runs.append(str(members[0]) if len(members) == 1 else f"{members[0]}-{members[-1]}")
    return ", ".join(runs)
