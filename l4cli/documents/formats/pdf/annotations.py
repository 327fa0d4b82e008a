"""The form fields and comments of a PDF page, which are not part of its content."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

from l4cli.documents.formats.pdf.page import Inset
from l4cli.documents.text import printable

_HIDDEN = 0x02 | 0x20  # the flags Hidden and NoView
_PASSWORD = 1 << 13  # a text field's flag
_MAX_CHARS = 1 << 20  # of a value or comment


def insets(page: Any, form: Any) -> Iterator[Inset]:
    """Yield what stands in form fields and comments on `page`.

    form: PDFium's form environment; None if the document has no form.
    """
    import pypdfium2.raw as pdfium

    for number in range(pdfium.FPDFPage_GetAnnotCount(page)):
        annotation = pdfium.FPDFPage_GetAnnot(page, number)
        if not annotation:
            continue
        try:
            text = _text(pdfium, annotation, form)
            box = pdfium.FS_RECTF()
            if text and pdfium.FPDFAnnot_GetRect(annotation, box):
                low, high = sorted((box.bottom, box.top))
                yield Inset(text, min(box.left, box.right), low, max(box.left, box.right), high)
        finally:
            pdfium.FPDFPage_CloseAnnot(annotation)


def _text(pdfium: Any, annotation: Any, form: Any) -> str:
    """Return an annotation's text in one line, "" if a reader does not see any."""
    if pdfium.FPDFAnnot_GetFlags(annotation) & _HIDDEN:
        return ""
    kind = pdfium.FPDFAnnot_GetSubtype(annotation)
    if kind == pdfium.FPDF_ANNOT_WIDGET:
        return _value(pdfium, annotation, form) if form else ""
    if kind in (pdfium.FPDF_ANNOT_POPUP, pdfium.FPDF_ANNOT_LINK):
        return ""
    contents = printable(_string(pdfium.FPDFAnnot_GetStringValue, annotation, b"Contents"))
    if not contents or kind == pdfium.FPDF_ANNOT_FREETEXT:
        return contents  # typed onto the page
    author = printable(_string(pdfium.FPDFAnnot_GetStringValue, annotation, b"T"))
    return f"[comment by {author}: {contents}]" if author else f"[comment: {contents}]"


def _value(pdfium: Any, annotation: Any, form: Any) -> str:
    """Return what a form field shows."""
    kind = pdfium.FPDFAnnot_GetFormFieldType(form, annotation)
    if kind in (pdfium.FPDF_FORMFIELD_CHECKBOX, pdfium.FPDF_FORMFIELD_RADIOBUTTON):
        return "[x]" if pdfium.FPDFAnnot_IsChecked(form, annotation) else "[ ]"
    if kind == pdfium.FPDF_FORMFIELD_LISTBOX:
        return ", ".join(_chosen(pdfium, annotation, form))
    if kind not in (pdfium.FPDF_FORMFIELD_TEXTFIELD, pdfium.FPDF_FORMFIELD_COMBOBOX):
        return ""
    if (
        kind == pdfium.FPDF_FORMFIELD_TEXTFIELD
        and pdfium.FPDFAnnot_GetFormFieldFlags(form, annotation) & _PASSWORD
    ):
        return ""
    return printable(_string(pdfium.FPDFAnnot_GetFormFieldValue, form, annotation))


def _chosen(pdfium: Any, annotation: Any, form: Any) -> Iterator[str]:
    for index in range(max(0, pdfium.FPDFAnnot_GetOptionCount(form, annotation))):
        if pdfium.FPDFAnnot_IsOptionSelected(form, annotation, index):
            yield printable(_string(pdfium.FPDFAnnot_GetOptionLabel, form, annotation, index))


def _string(getter: Callable[..., int], *where: Any) -> str:
    """Return a string of PDFium: the getter is asked for its length first."""
    length = min(getter(*where, None, 0), 2 * _MAX_CHARS)
    if length <= 2:
        return ""
    buffer = ctypes.create_string_buffer(length)
    pointer = ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort))
    getter(*where, pointer, length)
    return buffer.raw[: length - 2].decode("utf-16-le", "replace")
