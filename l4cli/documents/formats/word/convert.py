"""Converts DOCX to Markdown: its XML is made plain (`word.py`), then mammoth makes HTML of it."""

from __future__ import annotations

import io
import posixpath
import zipfile
from collections import Counter
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.parsers.expat import ExpatError

from l4cli.documents.formats.archive import BROKEN, Archive
from l4cli.documents.formats.converted import Text
from l4cli.documents.formats.html.convert import html_to_markdown
from l4cli.documents.formats.word.numbers import Numbering, W
from l4cli.documents.formats.word.plain import Story, comment_texts, raising_styles
from l4cli.errors import InputError

_MAX_XML = 64 << 20  # bytes of the text's XML, which mammoth parses; 1000 pages are about 10 MB
_STYLES = "p[style-name='Title'] => h1:fresh"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
# The namespaces of "strict" files, and those that mean the same in all others.
_STRICT = (
    (b"http://purl.oclc.org/ooxml/officeDocument/relationships", _OFFICE.encode()),
    (
        b"http://purl.oclc.org/ooxml/officeDocument/math",
        b"http://schemas.openxmlformats.org/officeDocument/2006/math",
    ),
    (
        b"http://purl.oclc.org/ooxml/wordprocessingml/main",
        b"http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    ),
)
_PARTS = ("styles", "numbering", "footnotes", "endnotes", "comments")
_NO_DOCUMENT = "it names no main part"


def docx_to_markdown(data: bytes, name: str) -> Text:
    """Return the text with its headings, lists, tables, notes and comments, but without pictures.

    Raises InputError.
    """
    import mammoth

    with Archive(data, name) as archive:
        main = main_part(archive)
        if main is None:
            raise archive.broken(_NO_DOCUMENT)
        try:
            plain, left_out = _plain(archive, main)
            result = mammoth.convert_to_html(
                io.BytesIO(plain),
                style_map=_STYLES,
                include_embedded_style_map=False,
                convert_image=lambda _image: [],
            )
        except RecursionError:
            raise InputError(f"{name}: nested too deeply to be read") from None
        # mammoth raises any of these for XML that lacks an element it needs.
        except (
            ExpatError, ElementTree.ParseError, AttributeError, TypeError, LookupError,
            RuntimeError, AssertionError, *BROKEN,
        ) as error:  # fmt: skip
            raise archive.broken(error) from None
    left_out["symbol"] += sum("w:sym" in message.message for message in result.messages)
    return Text(html_to_markdown(result.value, name, is_xhtml=True, has_marks=True).text, left_out)


def main_part(archive: Archive) -> str | None:
    """Return the member with the document's text, as the archive's relationships name it."""
    for kind, target in _relationships(archive, ""):
        found = archive.find(target) if kind == "officeDocument" else None
        if found is not None and not found.startswith(("xl/", "ppt/")):
            return found
    return archive.find("word/document.xml")


def _plain(archive: Archive, main: str) -> tuple[bytes, Counter[str]]:
    """Return the document for mammoth, and what it leaves out."""
    root = _parse(archive, main)
    parts: dict[str, Element] = {}
    left_out: Counter[str] = Counter()
    for kind, target in _relationships(archive, main):
        member = archive.find(target)
        if kind in _PARTS and member is not None and kind not in parts:
            parts[kind] = _parse(archive, member)
        elif kind in ("header", "footer") and member is not None:
            has_text = any(text.text for text in _parse(archive, member).iter(f"{W}t"))
            left_out[f"page {kind}"] += has_text
    story = Story(
        Numbering(parts.get("numbering"), parts.get("styles")),
        comment_texts(parts.pop("comments", None)),
        raising_styles(parts.get("styles")),
        left_out,
    )
    story.rewrite(root)
    for kind in ("footnotes", "endnotes"):
        if kind in parts:
            story.rewrite(parts[kind])
    for level in parts["numbering"].iter(f"{W}lvl") if "numbering" in parts else ():
        for linked in level.findall(f"{W}pStyle"):
            level.remove(linked)  # numbers are written already
    return _package(root, parts), left_out


def _package(root: Element, parts: dict[str, Element]) -> bytes:
    out = io.BytesIO()
    relationships = "".join(
        f'<Relationship Id="{kind}" Type="{_OFFICE}/{kind}" Target="{kind}.xml"/>' for kind in parts
    )
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("[Content_Types].xml", f'<Types xmlns="{_PACKAGE}/content-types"/>')
        file.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="main" '
            f'Type="{_OFFICE}/officeDocument" Target="word/document.xml"/></Relationships>',
        )
        file.writestr(
            "word/_rels/document.xml.rels",
            f'<Relationships xmlns="{_PACKAGE}/relationships">{relationships}</Relationships>',
        )
        file.writestr("word/document.xml", ElementTree.tostring(root, "utf-8"))
        for kind, part in parts.items():
            file.writestr(f"word/{kind}.xml", ElementTree.tostring(part, "utf-8"))
    return out.getvalue()


def _parse(archive: Archive, member: str) -> Element:
    data = archive.read(member)
    if len(data) > _MAX_XML:
        raise InputError(
            f"{archive.name}: its text is more than {_MAX_XML >> 20} MiB of XML; split the file"
        )
    for strict, usual in _STRICT:
        data = data.replace(strict, usual)
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise archive.broken(f"{member}: {error}") from None


def _relationships(archive: Archive, part: str) -> list[tuple[str, str]]:
    """Return the kinds and targets of a part's relationships; those of the archive for ""."""
    folder, file = posixpath.split(part)
    member = archive.find(posixpath.join(folder, "_rels", f"{file}.rels"))
    if member is None:
        return []
    found = []
    for relationship in _parse(archive, member):
        kind = relationship.get("Type", "").rpartition("/")[2]
        target = relationship.get("Target", "")
        if relationship.get("TargetMode") != "External" and target:
            found.append((kind, posixpath.join("/", folder, target)))
    return found
