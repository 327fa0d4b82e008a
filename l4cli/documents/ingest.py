"""Reads sources (files, patterns, folders, stdin) as documents, each with its format's reader."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from l4cli.documents.document import Document
from l4cli.documents.formats import format_of
from l4cli.documents.markdown import headings_of
from l4cli.documents.sources import find
from l4cli.documents.text import (
    MAX_BYTES,
    BinaryFileError,
    check_size,
    decode,
    read_bytes,
    unix_lines,
)
from l4cli.errors import InputError

STDIN = "-"


class EmptyDocumentError(InputError):
    """A file without any visible character."""


def _raise(error: InputError) -> None:
    raise error


def _say_nothing(_note: str) -> None:
    pass


def ingest(
    sources: Sequence[str],
    *,
    on_error: Callable[[InputError], None] = _raise,
    on_note: Callable[[str], None] = _say_nothing,
) -> Iterator[Document]:
    """Yield the documents that `sources` name, in order, each file only once.

    sources: each is a file, a pattern, a folder (its files, see `sources.find`) or "-" for stdin.
    on_error: called with an InputError, one line, for each source or file that cannot be read;
        reading goes on after it. The default raises the error.
    on_note: called with one line about things that were skipped but are no error: binary and empty
        files in folders, scanned pages in a PDF.
    """
    seen: set[Path] = set()
    for source in sources:
        passed_over: Counter[str] = Counter()
        try:
            files = [None] if source == STDIN else find(source, on_error)
        except InputError as error:
            on_error(error)
            continue
        for file in files:
            if file is not None:
                identity = _identity(file.path)
                if identity in seen:
                    continue
                seen.add(identity)
            try:
                yield read_stdin(on_note) if file is None else read_document(file.path, on_note)
            except InputError as error:
                kind = _harmless(error)
                if kind and file is not None and not file.is_named:
                    passed_over[kind] += 1
                else:
                    on_error(error)
        if passed_over:
            on_note(f"{source}: skipped {_counted(passed_over)}")


def read_document(path: Path, on_note: Callable[[str], None] = _say_nothing) -> Document:
    """Read one file as a document. Raises InputError, which names the file and the problem."""
    return document_of(read_bytes(path), str(path), on_note)


def read_stdin(on_note: Callable[[str], None] = _say_nothing) -> Document:
    """Read stdin as a document. Raises InputError if nothing is piped in."""
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("stdin: nothing is piped in; give the document as a file")
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    check_size(data, "stdin")
    return document_of(data, "stdin", on_note)


def document_of(data: bytes, name: str, on_note: Callable[[str], None] = _say_nothing) -> Document:
    """Convert a file's bytes to a document. Raises InputError, which begins with `name`."""
    document = _READERS[format_of(data, name)](data, name, on_note)
    if not document.text.strip():
        raise EmptyDocumentError(f"{name}: the file is empty")
    return document


def _text(data: bytes, name: str, _on_note: Callable[[str], None]) -> Document:
    return Document(name, unix_lines(decode(data, name)), has_lines=True)


def _markdown(data: bytes, name: str, _on_note: Callable[[str], None]) -> Document:
    text = unix_lines(decode(data, name))
    return Document(name, text, headings=headings_of(text), has_lines=True)


def _html(data: bytes, name: str, _on_note: Callable[[str], None]) -> Document:
    from l4cli.documents.encodings import decode_page
    from l4cli.documents.html import html_to_markdown

    return _converted(name, html_to_markdown(decode_page(data, name), name).text)


def _docx(data: bytes, name: str, _on_note: Callable[[str], None]) -> Document:
    from l4cli.documents.docx import docx_to_markdown

    return _converted(name, docx_to_markdown(data, name))


def _epub(data: bytes, name: str, _on_note: Callable[[str], None]) -> Document:
    from l4cli.documents.epub import epub_to_markdown

    return _converted(name, epub_to_markdown(data, name))


def _converted(name: str, markdown: str) -> Document:
    """Return a document whose lines differ from the file's lines."""
    return Document(name, markdown, headings=headings_of(markdown))


def _pdf(data: bytes, name: str, on_note: Callable[[str], None]) -> Document:
    from l4cli.documents.pdf import read_pdf

    pdf = read_pdf(data, name)
    if pdf.scanned:
        on_note(
            f"{name}: no text on {len(pdf.scanned)} of {len(pdf.pages)} pages "
            f"({_ranges(pdf.scanned)}): these may be scanned"
        )
    return Document(name, pdf.text, pages=pdf.pages, headings=pdf.headings)


_READERS = {
    "text": _text,
    "markdown": _markdown,
    "html": _html,
    "docx": _docx,
    "epub": _epub,
    "pdf": _pdf,
}


def _identity(path: Path) -> Path:
    """Return the same path for all names of a file."""
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError):  # reading the file reports the problem
        return path


def _harmless(error: InputError) -> str:
    """Return the kind of a file in a folder that is skipped; "" if the error must be reported."""
    if isinstance(error, BinaryFileError):
        return "binary"
    return "empty" if isinstance(error, EmptyDocumentError) else ""


def _counted(kinds: Counter[str]) -> str:
    return " and ".join(
        f"{count} {kind} file{'s' if count > 1 else ''}" for kind, count in kinds.items()
    )


def _ranges(numbers: Sequence[int]) -> str:
    """Return page numbers as ranges: 3, 7-9."""
    runs = []
    for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        runs.append(str(members[0]) if len(members) == 1 else f"{members[0]}-{members[-1]}")
    return ", ".join(runs)
