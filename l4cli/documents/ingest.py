"""Reads sources (files, patterns, folders, stdin) as documents, each with its format's reader."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from l4cli.documents.document import Document
from l4cli.documents.formats.bounded import convert_bounded, limits_of
from l4cli.documents.formats.converted import counted
from l4cli.documents.formats.readers import EmptyDocumentError, Read, plain_text
from l4cli.documents.formats.recognize import is_plain
from l4cli.documents.sources import Found, find, told
from l4cli.documents.text import MAX_BYTES, BinaryFileError, check_size, read_bytes
from l4cli.errors import InputError
from l4cli.paths import STDIN


def _raise(error: InputError) -> None:
    raise error


def _say_nothing(_note: str) -> None:
    pass


def ingest(
    sources: Sequence[str],
    *,
    on_error: Callable[[InputError], None] = _raise,
    on_note: Callable[[str], None] = _say_nothing,
    use_gitignore: bool = True,
) -> Iterator[Document]:
    """Yield the documents that `sources` name, in order, each file only once.

    sources: each is a file, a pattern, a folder (its files, see `sources.find`) or "-" for stdin.
    on_error: called with an InputError, one line, for each source or file that cannot be read;
        reading goes on after it. The default raises the error.
    on_note: called with one line about things that were left out but are no error: binary and
        ignored files in folders, scanned pages in a PDF, pictures and whatever else is no text.
    use_gitignore: whether files in folders that a .gitignore names are left out.
    """
    seen: set[Path] = set()
    for source in sources:
        left_out: Counter[str] = Counter()  # of a folder and its files: told in one line
        try:
            files: list[Found | None] = [None]
            if source != STDIN:
                files = [*find(source, on_error, use_gitignore=use_gitignore, left_out=left_out)]
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
                if file is None or file.is_named:
                    yield read_stdin(on_note) if file is None else read_document(file.path, on_note)
                else:
                    read = _read(read_bytes(file.path), str(file.path))
                    left_out.update(read.left_out)
                    _tell(str(file.path), replace(read, left_out={}), on_note)
                    yield read.document
            except InputError as error:
                kind = _harmless(error)
                if kind and file is not None and not file.is_named:
                    left_out[f"{kind} file"] += 1
                else:
                    on_error(error)
        if +left_out:
            on_note(f"{source}: left out: {told(left_out)}")


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


def document_of(
    data: bytes,
    name: str,
    on_note: Callable[[str], None] = _say_nothing,
    *,
    most_seconds: float = math.inf,
) -> Document:
    """Convert a file's bytes to a document. Raises InputError, which begins with `name`.

    most_seconds: of computing, if a file of this size may take longer than that.
    """
    read = _read(data, name, most_seconds)
    _tell(name, read, on_note)
    return read.document


def _read(data: bytes, name: str, most_seconds: float = math.inf) -> Read:
    """Convert a file's bytes; in a child process unless they are plain text."""
    if is_plain(data, name):
        return plain_text(data, name)
    limits = limits_of(data)
    limits = replace(limits, seconds=min(limits.seconds, most_seconds))
    return convert_bounded(data, name, limits)


def _tell(name: str, read: Read, on_note: Callable[[str], None]) -> None:
    for note in read.notes:
        on_note(note)
    if left_out := counted(read.left_out):
        on_note(f"{name}: left out: {left_out}")


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
