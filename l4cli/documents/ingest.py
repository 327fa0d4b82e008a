"""Sources to documents: files, patterns, folders and stdin, each in the reader of its format."""

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
    """A file without a single visible character."""


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
    """The documents that `sources` name, one at a time, in their order; a file only once.

    A source is a file, a pattern, a folder (its files, see `sources.find`) or "-" for stdin. What
    cannot be read is one line to `on_error`, and the others go on; without `on_error` the first
    such line is raised. `on_note` is told, in a line, what was passed over without being wrong:
    binary and empty files in folders, pictures among a PDF's pages.
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
            on_note(f"{source}: passed over {_counted(passed_over)}")


def read_document(path: Path, on_note: Callable[[str], None] = _say_nothing) -> Document:
    """One file as a document; InputError names it and what is wrong."""
    return document_of(read_bytes(path), str(path), on_note)


def read_stdin(on_note: Callable[[str], None] = _say_nothing) -> Document:
    """What is piped in, as a document."""
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("stdin: nothing is piped in; give the document as a file")
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    check_size(data, "stdin")
    return document_of(data, "stdin", on_note)


def document_of(data: bytes, name: str, on_note: Callable[[str], None] = _say_nothing) -> Document:
    """A file's bytes as a document, read as what they are; InputError begins with `name`."""
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
    from l4cli.documents.html import decode_html, html_to_markdown

    return _converted(name, html_to_markdown(decode_html(data, name), name))


def _docx(data: bytes, name: str, _on_note: Callable[[str], None]) -> Document:
    from l4cli.documents.docx import docx_to_markdown

    return _converted(name, docx_to_markdown(data, name))


def _epub(data: bytes, name: str, _on_note: Callable[[str], None]) -> Document:
    from l4cli.documents.epub import epub_to_markdown

    return _converted(name, epub_to_markdown(data, name))


def _converted(name: str, markdown: str) -> Document:
    """A document whose lines are ours, not the file's."""
    return Document(name, markdown, headings=headings_of(markdown))


def _pdf(data: bytes, name: str, on_note: Callable[[str], None]) -> Document:
    from l4cli.documents.pdf import read_pdf

    pdf = read_pdf(data, name)
    if pdf.scanned:
        on_note(
            f"{name}: no text on {len(pdf.scanned)} of {len(pdf.pages)} pages "
            f"({_ranges(pdf.scanned)}): they may be pictures of it"
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
    """One path for a file, however it is named."""
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError):  # whatever is wrong is told when it is read
        return path


def _harmless(error: InputError) -> str:
    """What a file in a folder is passed over as; "" for what its user should hear of."""
    if isinstance(error, BinaryFileError):
        return "binary"
    return "empty" if isinstance(error, EmptyDocumentError) else ""


def _counted(kinds: Counter[str]) -> str:
    return " and ".join(
        f"{count} {kind} file{'s' if count > 1 else ''}" for kind, count in kinds.items()
    )


def _ranges(numbers: Sequence[int]) -> str:
    """Page numbers as people write them: 3, 7-9."""
    runs = []
    for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        runs.append(str(members[0]) if len(members) == 1 else f"{members[0]}-{members[-1]}")
    return ", ".join(runs)
