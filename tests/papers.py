"""Writes minimal documents for tests: PDF, DOCX and EPUB."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from urllib.parse import unquote
from xml.sax.saxutils import escape

SCANNED = object()  # stands for a page that is a picture
_PICTURE = b"q 100 0 0 100 100 100 cm BI /W 1 /H 1 /CS /G /BPC 8 ID \x00 EI Q"
_ENCRYPT = b"<< /Filter /Standard /V 1 /R 2 /P -4 /O (%s) /U (%s) >>" % (b"o" * 32, b"u" * 32)
WORD_SPACES = {
    "w": "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "r": "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
    "m": "http://schemas.openxmlformats.org/officeDocument/2006/math",
    "mc": "http://schemas.openxmlformats.org/markup-compatibility/2006",
    "wps": "http://schemas.microsoft.com/office/word/2010/wordprocessingShape",
    "w14": "http://schemas.microsoft.com/office/word/2010/wordml",
    "wp": "http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing",
    "a": "http://schemas.openxmlformats.org/drawingml/2006/main",
    "v": "urn:schemas-microsoft-com:vml",
}
_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def pdf(
    pages: Sequence[object], outline: Sequence[tuple[str, int]] = (), *, encrypted: bool = False
) -> bytes:
    """Return a PDF; `outline` has titles and page indices.

    A page is lines of text, a content stream (bytes, with the font F), or SCANNED.
    """
    objects: list[bytes] = [b"", b"", b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for page in pages:
        content = _PICTURE if page is SCANNED else page
        if not isinstance(content, bytes):
            content = _lines(str(page))
        kids.append(len(objects) + 2)
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents %d 0 R "
            b"/Resources << /Font << /F 3 0 R >> >> >>" % (len(objects))
        )
    entries = range(len(objects) + 2, len(objects) + 2 + len(outline))
    root = len(objects) + 1
    first, last = (entries[0], entries[-1]) if outline else (0, 0)
    objects.append(b"<< /Type /Outlines /First %d 0 R /Last %d 0 R >>" % (first, last))
    for number, (title, index) in zip(entries, outline, strict=True):
        following = b"/Next %d 0 R" % (number + 1) if number != last else b""
        objects.append(
            b"<< /Title (%s) /Parent %d 0 R /Dest [%d 0 R /Fit] %s >>"
            % (title.encode("latin-1"), root, kids[index], following)
        )
    objects[0] = b"<< /Type /Catalog /Pages 2 0 R %s >>" % (
        b"/Outlines %d 0 R" % root if outline else b""
    )
    references = b" ".join(b"%d 0 R" % kid for kid in kids)
    objects[1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(kids), references)
    return _pdf_file(objects, encrypted)


def _lines(text: str) -> bytes:
    """Return the content stream that draws a page's lines, 14 points apart."""
    shown = [
        b"(%s) Tj T*" % line.replace("(", r"\(").replace(")", r"\)").encode("cp1252")
        for line in text.splitlines()
    ]
    return b"BT /F 12 Tf 14 TL 72 760 Td %s ET" % b" ".join(shown)


def _pdf_file(objects: Sequence[bytes], encrypted: bool) -> bytes:
    out, places = io.BytesIO(), []
    out.write(b"%PDF-1.4\n")
    for number, content in enumerate(objects, 1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, content))
    table = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.writelines(b"%010d 00000 n \n" % place for place in places)
    lock = b"/Encrypt %s /ID [<00> <00>]" % _ENCRYPT if encrypted else b""
    out.write(b"trailer << /Size %d /Root 1 0 R %s >>\n" % (len(objects) + 1, lock))
    out.write(b"startxref\n%d\n%%%%EOF\n" % table)
    return out.getvalue()


def archive(members: Mapping[str, str | bytes]) -> bytes:
    """Return a zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return out.getvalue()


def docx(paragraphs: Sequence[tuple[str, str]], *, head: str = "") -> bytes:
    """Return a Word document. A paragraph is a style's name ("" is plain) and a text."""
    styles = sorted({style for style, _ in paragraphs if style})
    ids = {style: style.replace(" ", "") for style in styles}
    body = "".join(
        "<w:p>"
        + (f'<w:pPr><w:pStyle w:val="{ids[style]}"/></w:pPr>' if style else "")
        + f'<w:r><w:t xml:space="preserve">{escape(text)}</w:t></w:r></w:p>'
        for style, text in paragraphs
    )
    defined = "".join(
        f'<w:style w:type="paragraph" w:styleId="{ids[style]}"><w:name w:val="{style}"/></w:style>'
        for style in styles
    )
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    return archive(
        {
            "[Content_Types].xml": (
                f'<Types xmlns="{package}/content-types"><Default Extension="rels" ContentType='
                '"application/vnd.openxmlformats-package.relationships+xml"/></Types>'
            ),
            "_rels/.rels": (
                f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
                f'Type="{office}/officeDocument" Target="word/document.xml"/></Relationships>'
            ),
            "word/_rels/document.xml.rels": (
                f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
                f'Type="{office}/styles" Target="styles.xml"/></Relationships>'
            ),
            "word/styles.xml": f'<w:styles xmlns:w="{_W}">{defined}</w:styles>',
            "word/document.xml": (
                f'{head}<w:document xmlns:w="{_W}"><w:body>{body}</w:body></w:document>'
            ),
        }
    )


def word(
    body: str, parts: Mapping[str, str | None] | None = None, *, main: str = "word/document.xml"
) -> bytes:
    """Return a Word document of raw XML.

    body: the content of w:body. parts: the XML of other parts by their names, such as "numbering";
    None stands for a part that is named and missing. main: where the document lies.
    """
    spaces = " ".join(f'xmlns:{prefix}="{space}"' for prefix, space in WORD_SPACES.items())
    folder, _, file = main.rpartition("/")
    parts = parts or {}
    named = "".join(
        f'<Relationship Id="{name}" Type="{WORD_SPACES["r"]}/{name.rstrip("0123456789")}" '
        f'Target="{name}.xml"/>'
        for name in parts
    )
    package = "http://schemas.openxmlformats.org/package/2006"
    members: dict[str, str | bytes] = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"/>',
        "_rels/.rels": (
            f'<Relationships xmlns="{package}/relationships"><Relationship Id="r" '
            f'Type="{WORD_SPACES["r"]}/officeDocument" Target="{main}"/></Relationships>'
        ),
        f"{folder}/_rels/{file}.rels": (
            f'<Relationships xmlns="{package}/relationships">{named}</Relationships>'
        ),
        main: f"<w:document {spaces}><w:body>{body}</w:body></w:document>",
    }
    for name, content in parts.items():
        if content is not None:
            members[f"{folder}/{name}.xml"] = content.replace(">", f" {spaces}>", 1)
    return archive(members)


def book(
    members: Mapping[str, str | bytes], manifest: Sequence[tuple[str, str]], spine: bool = True
) -> bytes:
    """Return a book of raw members; `manifest` has the chapters' names and media types in order."""
    items = "".join(
        f'<item id="c{n}" href="{name}" media-type="{kind}"/>'
        for n, (name, kind) in enumerate(manifest)
    )
    order = "".join(f'<itemref idref="c{n}"/>' for n in range(len(manifest)))
    return archive(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": (
                '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
                '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
            ),
            "OEBPS/book.opf": (
                '<package xmlns="http://www.idpf.org/2007/opf"><manifest>'
                f"{items}</manifest>{f'<spine>{order}</spine>' if spine else ''}</package>"
            ),
            **members,
        }
    )


def epub(
    chapters: Mapping[str, str], *, left_out: Sequence[str] = (), locked: Sequence[str] = ()
) -> bytes:
    """Return a book. `chapters` are file names and the content of their bodies.

    The files of `left_out` chapters are missing; `locked` chapters are listed as encrypted.
    """
    items = "".join(
        f'<item id="c{n}" href="{name}" media-type="application/xhtml+xml"/>'
        for n, name in enumerate(chapters)
    )
    order = "".join(f'<itemref idref="c{n}"/>' for n in range(len(chapters)))
    members: dict[str, str | bytes] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": (
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
        ),
        "OEBPS/book.opf": (
            '<package xmlns="http://www.idpf.org/2007/opf"><manifest>'
            f"{items}</manifest><spine>{order}</spine></package>"
        ),
    }
    if locked:
        references = "".join(f'<CipherReference URI="OEBPS/{name}"/>' for name in locked)
        members["META-INF/encryption.xml"] = f"<encryption>{references}</encryption>"
    for name, inside in chapters.items():
        if name not in left_out:
            members[f"OEBPS/{unquote(name)}"] = (
                '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml">'
                f"<head><title>Book</title></head><body>{inside}</body></html>"
            )
    return archive(members)
