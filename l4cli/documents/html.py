"""HTML to Markdown: headings, lists, tables and code stay, what only decorates goes.

Emphasis and links become plain text, so that what is quoted from the text is found in the page.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

from l4cli.documents.text import decode
from l4cli.errors import InputError

MAX_CHARS = 64 << 20  # a parsed page takes some 30 times its length of memory
_UNSEEN = ("head", "title", "script", "style", "template", "noscript", "svg", "iframe", "object")
_PLAIN = ("a", "b", "strong", "em", "i", "u", "del", "s", "mark", "sub", "sup", "kbd", "samp")
_MUST_CLOSE = re.compile(
    r"<(/?)(?:div|span|b|i|em|strong|font|small|big|blockquote|section)\b", re.I
)
_MAX_UNCLOSED = 10_000
_BLANK_LINES = re.compile(r"\n{3,}")
_TRAILING_SPACES = re.compile(r"[ \t]+\n")


def decode_html(data: bytes, name: str) -> str:
    """A page's text by its BOM, else as it says itself, else as UTF-8; InputError if it is not."""
    from bs4.dammit import EncodingDetector

    declared = EncodingDetector.find_declared_encoding(data[:4096], is_html=True)
    # Browsers take Latin-1 for Windows' superset of it, and so do those who write it.
    encoding = {"iso-8859-1": "cp1252", "latin1": "cp1252"}.get(declared or "", declared)
    if encoding in (None, "utf-8", "utf8") or data.startswith((b"\xef\xbb\xbf", b"\xff", b"\xfe")):
        return decode(data, name)
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        raise InputError(
            f"{name}: not in the encoding that it names ({declared}); "
            "convert it to UTF-8 first (iconv)"
        ) from None


def html_to_markdown(page: str, name: str, *, is_xhtml: bool = False) -> str:
    """A page's text as Markdown; InputError for one too large or too deeply nested to be read.

    XHTML has all its end tags, and may have others (`<title/>`) that HTML knows otherwise.
    """
    from bs4 import BeautifulSoup
    from bs4.element import Declaration, ProcessingInstruction

    if len(page) > MAX_CHARS:
        size = f"{MAX_CHARS >> 20} million characters"
        raise InputError(f"{name}: an HTML page of more than {size}; give it in parts")
    too_deep = InputError(f"{name}: its HTML is nested too deeply to be read")
    if not is_xhtml and not page.lstrip().startswith("<?xml"):
        if _num_unclosed(page) > _MAX_UNCLOSED:
            raise too_deep
        page = _with_all_tags(page)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # XHTML is as good as HTML here, a short text is no path
        soup = BeautifulSoup(page, "html.parser")
    try:
        for element in soup(_UNSEEN):
            element.decompose()
        for node in soup.find_all(
            string=lambda node: isinstance(node, (Declaration, ProcessingInstruction))
        ):
            node.extract()
        text = str(_converter().convert_soup(soup))
    except RecursionError:
        raise too_deep from None
    return _BLANK_LINES.sub("\n\n", _TRAILING_SPACES.sub("\n", text)).strip("\n")


def _with_all_tags(page: str) -> str:
    """The page with the end tags that HTML lets its authors leave out, as a browser puts them."""
    from selectolax.lexbor import LexborHTMLParser

    return LexborHTMLParser(page).html or ""


def _num_unclosed(page: str) -> int:
    """How many elements are never closed that must be: lexbor's time goes by their square."""
    ends = [match[1] for match in _MUST_CLOSE.finditer(page)]
    return len(ends) - 2 * ends.count("/")


def _converter() -> Any:
    from markdownify import MarkdownConverter

    def plain(_self: Any, _element: Any, text: str, **_: Any) -> str:
        return text

    def alternative(_self: Any, element: Any, _text: str, **_: Any) -> str:
        return str(element.attrs.get("alt") or "")

    methods = {f"convert_{tag}": plain for tag in _PLAIN} | {"convert_img": alternative}
    return type("_Converter", (MarkdownConverter,), methods)(
        heading_style="ATX",
        bullets="-",
        escape_asterisks=False,
        escape_underscores=False,
        escape_misc=False,
    )
