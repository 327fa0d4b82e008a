"""Extracts the text of a PDF, page by page, with PDFium: content, form fields and comments."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from l4cli.documents.document import Heading
from l4cli.documents.text import printable, unix_lines
from l4cli.errors import InputError

_WRONG_PASSWORD = 4  # FPDF_ERR_PASSWORD
_PAGE_BREAK = "\n\n"
_HYPHENATED = re.compile("\ufffe\n?")  # PDFium's mark for a word divided at a line end
_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class PdfText:
    """The text of a PDF.

    text: of all pages.
    pages: the offsets at which pages begin.
    headings: the outline's entries.
    scanned: the numbers of pages that show something but contain no text.
    num_pictures: pictures on the other pages. num_files: attached files.
    """

    text: str
    pages: tuple[int, ...]
    headings: tuple[Heading, ...]
    scanned: tuple[int, ...]
    num_pictures: int = 0
    num_files: int = 0


def read_pdf(data: bytes, name: str) -> PdfText:
    """Extract the text of a PDF.

    An outline entry becomes a heading at its title on its page, or at the page's beginning if the
    title is not found there. Raises InputError if the PDF is encrypted, broken, or has no text.
    """
    import pypdfium2

    try:
        pdf = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if error.err_code == _WRONG_PASSWORD:
            raise InputError(f"{name}: encrypted; save it without its password") from None
        raise InputError(f"{name}: not a PDF that can be read; it may be cut off") from None
    try:
        with contextlib.suppress(pypdfium2.PdfiumError):  # then the pages are read without fields
            pdf.init_forms()
        pages = [_Page(pdf, index, name) for index in range(len(pdf))]
        outline = list(_outline(pdf))
        num_files = pdf.count_attachments()
    finally:
        pdf.close()
    scanned = tuple(number for number, page in enumerate(pages, 1) if page.is_scanned)
    if not any(page.text for page in pages):
        what = "scanned: its pages are pictures; run it through OCR first" if scanned else "empty"
        raise InputError(f"{name}: {what}")
    starts = _starts([page.text for page in pages])
    text = _PAGE_BREAK.join(page.text for page in pages)
    num_pictures = sum(page.num_pictures for page in pages if not page.is_scanned)
    headings = _headings(outline, text, starts)
    return PdfText(text, starts, headings, scanned, num_pictures, num_files)


class _Page:
    """The text of one page, the number of its pictures, and whether it is scanned."""

    def __init__(self, pdf: Any, index: int, name: str) -> None:
        from pypdfium2 import PdfiumError
        from pypdfium2.raw import FPDF_PAGEOBJ_IMAGE

        from l4cli.documents.formats.pdf.annotations import insets
        from l4cli.documents.formats.pdf.page import PageText

        try:
            page = pdf[index]
            try:
                textpage = page.get_textpage()
                try:
                    found = list(insets(page, pdf.formenv))
                    self.text = _clean(PageText(textpage).text(found))
                finally:
                    textpage.close()
                self.is_scanned = not self.text and next(page.get_objects(), None) is not None
                self.num_pictures = sum(1 for _ in page.get_objects([FPDF_PAGEOBJ_IMAGE]))
            finally:
                page.close()
        except PdfiumError:
            raise InputError(f"{name}: page {index + 1} is missing or cannot be read") from None


def _clean(text: str) -> str:
    """Return text with "\\n" line ends, hyphens in divided words, and no control characters."""
    text = _HYPHENATED.sub("-\n", unix_lines(text))
    return _CONTROL.sub("", text).strip()


def _starts(texts: Sequence[str]) -> tuple[int, ...]:
    starts, start = [], 0
    for text in texts:
        starts.append(start)
        start += len(text) + len(_PAGE_BREAK)
    return tuple(starts)


def _outline(pdf: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the outline's entries that lead to a page: title, level from 1, index of the page."""
    for entry in pdf.get_toc():
        target = entry.get_dest()
        index = target.get_index() if target else None
        title = printable(entry.get_title())
        if title and index is not None and 0 <= index < len(pdf):
            yield {"title": title, "level": entry.level + 1, "index": index}


def _headings(
    outline: Sequence[Mapping[str, Any]], text: str, starts: Sequence[int]
) -> tuple[Heading, ...]:
    ends = (*starts[1:], len(text))
    headings = []
    for entry in outline:
        start, end = starts[entry["index"]], ends[entry["index"]]
        words = r"\s+".join(map(re.escape, entry["title"].split()))
        found = re.compile(words, re.IGNORECASE).search(text, start, end)
        offset = found.start() if found else start
        headings.append(Heading(offset, entry["level"], entry["title"]))
    return tuple(sorted(headings, key=lambda heading: (heading.offset, heading.level)))
