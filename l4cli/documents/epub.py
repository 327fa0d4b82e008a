"""Converts EPUB to Markdown, with the chapters in the order of the book's spine.

A book is a zip archive. META-INF/container.xml names the package file, which names the chapters
(XHTML files).
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from urllib.parse import unquote
from xml.etree import ElementTree

from l4cli.documents.archive import Archive
from l4cli.documents.encodings import decode_page
from l4cli.documents.html import html_to_markdown
from l4cli.errors import InputError

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_XHTML = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")


def epub_to_markdown(data: bytes, name: str) -> str:
    """Return the text of a book's chapters.

    Raises InputError, which names the chapter, if one is missing or encrypted.
    """
    with Archive(data, name) as archive:
        locked = _encrypted(archive)
        chapters = []
        for member in _spine(archive):
            if member in locked:
                raise InputError(f"{name}: {member} is encrypted (DRM); l4 cannot read it")
            page = decode_page(archive.read(member), f"{name}: {member}")
            chapters.append(html_to_markdown(page, f"{name}: {member}", is_xhtml=True).text)
    return "\n\n".join(chapter for chapter in chapters if chapter)


def _spine(archive: Archive) -> Iterator[str]:
    """Yield the chapters' names in the archive, in reading order."""
    rootfile = next(_elements(archive, _CONTAINER, "rootfile"), None)
    package = rootfile.get("full-path") if rootfile is not None else None
    if not package:
        raise archive.broken(f"{_CONTAINER} names no package")
    items = {item.get("id"): item for item in _elements(archive, package, "item")}
    for reference in _elements(archive, package, "itemref"):
        item = items.get(reference.get("idref"))
        if item is None or not item.get("href"):
            raise archive.broken(f"{package} names no file for {reference.get('idref')}")
        if item.get("media-type") in _XHTML:
            href = unquote(str(item.get("href")))
            yield posixpath.normpath(posixpath.join(posixpath.dirname(package), href))


def _encrypted(archive: Archive) -> frozenset[str]:
    """Return the encrypted members. Books without DRM may have encrypted fonts."""
    if _ENCRYPTION not in archive:
        return frozenset()
    references = _elements(archive, _ENCRYPTION, "CipherReference")
    return frozenset(unquote(reference.get("URI", "")) for reference in references)


def _elements(archive: Archive, member: str, tag: str) -> Iterator[ElementTree.Element]:
    """Return a member's XML elements with this local name, in any namespace."""
    try:
        root = ElementTree.fromstring(archive.read(member))
    except ElementTree.ParseError as error:
        raise archive.broken(f"{member}: {error}") from None
    return (element for element in root.iter() if element.tag.rpartition("}")[2] == tag)
