"""Recognizes a document's format by its first bytes, and text formats also by the file's name."""

from __future__ import annotations

from pathlib import PurePath
from typing import Literal

from l4cli.documents.formats.archive import Archive
from l4cli.documents.text import BinaryFileError

Format = Literal["text", "markdown", "html", "pdf", "docx", "epub", "notebook"]

_BY_SUFFIX: dict[str, Format] = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".htm": "html",
    ".html": "html",
    ".xht": "html",
    ".xhtml": "html",
    ".ipynb": "notebook",
}
_FOREIGN = (
    (b"\xd0\xcf\x11\xe0", "an old or encrypted Office file; save it as .docx"),
    (b"{\\rtf", "an RTF file; save it as .docx"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"\x89PNG", "an image; l4 reads text"),
    (b"\xff\xd8\xff", "an image; l4 reads text"),
    (b"GGUF", "a GGUF model; give it with -m"),
)
_ZIP = b"PK\x03\x04"
_ZIPS = (
    ("xl/", "a spreadsheet; save its sheets as CSV"),
    ("ppt/", "a presentation; export it as PDF"),
    ("content.xml", "an OpenDocument file; save it as .docx"),
)


def format_of(data: bytes, name: str) -> Format:
    """Return the format of `data`.

    Raises BinaryFileError, which says what to do, for a format that l4 does not read, and
    InputError for a broken zip archive.
    """
    if b"%PDF-" in data[:1024]:
        return "pdf"
    if data.startswith(_ZIP):
        return _zip_format(data, name)
    for magic, what in _FOREIGN:
        if data.startswith(magic):
            raise BinaryFileError(f"{name}: {what}")
    suffix = PurePath(name).suffix.lower()
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not suffix and start.startswith((b"<!doctype html", b"<html")):
        return "html"  # a page from a pipe has no name
    return "text"


def is_plain(data: bytes, name: str) -> bool:
    """Whether `data` is to be read as text as it is. Raises BinaryFileError as `format_of` does."""
    return not data.startswith(_ZIP) and format_of(data, name) == "text"


def _zip_format(data: bytes, name: str) -> Format:
    from l4cli.documents.formats.epub import is_book
    from l4cli.documents.formats.word.convert import main_part

    with Archive(data, name) as archive:
        members = archive.members
        if is_book(archive):
            return "epub"
        if "[Content_Types].xml" in members and main_part(archive) is not None:
            return "docx"
    for part, what in _ZIPS:
        if any(member.startswith(part) for member in members):
            raise BinaryFileError(f"{name}: {what}")
    raise BinaryFileError(f"{name}: a zip archive; unpack it first")
