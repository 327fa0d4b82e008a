"""Converts EPUB to Markdown, with the chapters in the order of the book's spine.

A book is a zip archive. META-INF/container.xml names the package file, which names the chapters
(XHTML files). Many books deviate: their chapters have other media types, and names differ in case
or in percent signs. Such chapters are found anyway, and what is left out is counted.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from l4cli.documents.formats.archive import Archive
from l4cli.documents.formats.converted import Text
from l4cli.documents.formats.html.convert import html_to_markdown
from l4cli.documents.formats.html.encodings import decode_page
from l4cli.documents.text import decode, unix_lines
from l4cli.errors import InputError

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_PAGE_TYPES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml", "image/svg+xml")
_PAGE = re.compile(rb"<(?:!doctype\s+html|html|body|dtbook)\b", re.IGNORECASE)
_IS_XML = re.compile(rb"\s*<\?xml|[^>]*<html[^>]*\sxmlns", re.IGNORECASE)
_MAX_STYLES = 1 << 20  # bytes of CSS
_MAX_FALLBACKS = 10
_MAX_PACKAGE = 8 << 20  # bytes of XML; that of a book of a thousand chapters has 0.2 MB


@dataclass(frozen=True, slots=True)
class _Item:
    """A file that the package names: its name in the archive, its type, and its substitute's id."""

    name: str
    media_type: str
    fallback: str
    is_contents: bool


def is_book(archive: Archive) -> bool:
    """Whether an archive is an EPUB."""
    if archive.find(_CONTAINER) is not None:
        return True
    return "mimetype" in archive and archive.read("mimetype").strip() == b"application/epub+zip"


def epub_to_markdown(data: bytes, name: str) -> Text:
    """Return the text of a book's chapters.

    Raises InputError, which names the chapter, if one is missing or encrypted.
    """
    left_out: Counter[str] = Counter()
    with Archive(data, name) as archive:
        package = _package(archive)
        items = _items(archive, package)
        locked = _encrypted(archive)
        styles = _styles(archive, items)
        chapters = []
        for item in _spine(archive, package, items, left_out):
            member = archive.find(item.name)
            if member is None:
                raise InputError(f"{name}: incomplete: {item.name} is missing")
            if member in locked:
                raise InputError(f"{name}: {member} is encrypted (DRM); l4 cannot read it")
            chapters.append(_chapter(archive, member, item, styles, left_out))
    return Text("\n\n".join(chapter for chapter in chapters if chapter), left_out)


def _chapter(
    archive: Archive, member: str, item: _Item, styles: str, left_out: Counter[str]
) -> str:
    """Return the text of a chapter; "" if it is of a type that has none, which is counted."""
    data = archive.read(member)
    name = f"{archive.name}: {member}"
    if item.media_type in _PAGE_TYPES or _PAGE.search(data[:4096]):
        page = html_to_markdown(
            decode_page(data, name), name, is_xhtml=bool(_IS_XML.match(data[:4096])), styles=styles
        )
        left_out.update(page.left_out)
        return page.text
    if item.media_type in ("text/plain", "text/markdown", ""):
        return unix_lines(decode(data, name)).strip("\n")
    is_picture = item.media_type.startswith("image/")
    left_out["picture" if is_picture else "chapter of another type"] += 1
    return ""


def _package(archive: Archive) -> str:
    """Return the name of the package file."""
    container = archive.find(_CONTAINER)
    rootfiles = _elements(archive, container, "rootfile") if container else iter(())
    stated = next(rootfiles, None)
    path = stated.get("full-path") if stated is not None else None
    found = archive.find(path) if path else None
    found = found or next((name for name in sorted(archive.members) if name.endswith(".opf")), None)
    if found is None:
        raise archive.broken(f"{_CONTAINER} names no package")
    return found


def _items(archive: Archive, package: str) -> dict[str, _Item]:
    """Return the files that the package names, by their ids."""
    items = {}
    for element in _elements(archive, package, "item"):
        if href := element.get("href"):
            items[element.get("id") or href] = _Item(
                posixpath.normpath(
                    posixpath.join(posixpath.dirname(package), href.partition("#")[0])
                ),
                (element.get("media-type") or "").partition(";")[0].strip().lower(),
                element.get("fallback") or "",
                "nav" in (element.get("properties") or "").split(),
            )
    return items


def _spine(
    archive: Archive, package: str, items: dict[str, _Item], left_out: Counter[str]
) -> Iterator[_Item]:
    """Yield the chapters in reading order, each once; all pages of the package if it has none."""
    ids = [element.get("idref") or "" for element in _elements(archive, package, "itemref")]
    if not ids:
        ids = [key for key, item in items.items() if _is_page(item) and not item.is_contents]
    seen = set()
    for key in ids:
        item = items.get(key)
        for _ in range(_MAX_FALLBACKS):
            if item is None or _is_page(item) or item.fallback not in items:
                break
            item = items[item.fallback]
        if item is None:
            left_out["chapter without a file"] += 1
        elif item.name not in seen:
            seen.add(item.name)
            yield item


def _is_page(item: _Item) -> bool:
    return item.media_type in _PAGE_TYPES or item.name.lower().endswith((".html", ".htm", ".xhtml"))


def _styles(archive: Archive, items: dict[str, _Item]) -> str:
    """Return the book's CSS, which says what is raised and lowered."""
    styles: list[str] = []
    length = 0
    for item in items.values():
        member = archive.find(item.name) if item.media_type == "text/css" else None
        if member is not None and length < _MAX_STYLES:
            styles.append(archive.read(member)[:_MAX_STYLES].decode("utf-8", "replace"))
            length += len(styles[-1])
    return "".join(styles)


def _encrypted(archive: Archive) -> frozenset[str | None]:
    """Return the encrypted members. Books without DRM may have encrypted fonts."""
    if _ENCRYPTION not in archive:
        return frozenset()
    references = _elements(archive, _ENCRYPTION, "CipherReference")
    return frozenset(archive.find(reference.get("URI", "")) for reference in references)


def _elements(archive: Archive, member: str, tag: str) -> Iterator[ElementTree.Element]:
    """Return a member's XML elements with this local name, in any namespace."""
    data = archive.read(member)
    if len(data) > _MAX_PACKAGE:
        raise InputError(f"{archive.name}: {member} names more chapters than l4 reads")
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise archive.broken(f"{member}: {error}") from None
    return (element for element in root.iter() if element.tag.rpartition("}")[2] == tag)
