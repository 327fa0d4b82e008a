"""Converts HTML to Markdown: keeps headings, lists, tables and code, drops decoration.

Emphasis and links become plain text, because a passage quoted from the text must be found in the
page.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

from l4cli.documents.text import decode
from l4cli.errors import InputError

MAX_CHARS = 64 << 20  # a parsed page takes about 30 bytes of memory per character
_UNSEEN = ("head", "title", "script", "style", "template", "noscript", "svg", "iframe", "object")
_PLAIN = ("a", "b", "strong", "em", "i", "u", "del", "s", "mark", "sub", "sup", "kbd", "samp")
_MUST_CLOSE = re.compile(
    r"<(/?)(?:div|span|b|i|em|strong|font|small|big|blockquote|section)\b", re.I
)
_MAX_UNCLOSED = 10_000
_BLANK_LINES = re.compile(r"\n{3,}")
_TRAILING_SPACES = re.compile(r"[ \t]+\n")


def decode_html(data: bytes, name: str) -> str:
    """Decode a page by its BOM, else by the encoding that it declares, else as UTF-8.

    Raises InputError if this fails.
    """
    from bs4.dammit import EncodingDetector

    declared = EncodingDetector.find_declared_encoding(data[:4096], is_html=True)
    # Like browsers, read pages that declare Latin-1 as its superset from Windows, which they mean.
    encoding = {"iso-8859-1": "cp1252", "latin1": "cp1252"}.get(declared or "", declared)
    if encoding in (None, "utf-8", "utf8") or data.startswith((b"\xef\xbb\xbf", b"\xff", b"\xfe")):
        return decode(data, name)
    try:
        return data.decode(encoding)
    except (UnicodeError, LookupError):
        raise InputError(
            f"{name}: not in the encoding that it names ({declared}); "
            "convert it to UTF-8 first (iconv)"
        ) from None


def html_to_markdown(page: str, name: str, *, is_xhtml: bool = False) -> str:
    """Return a page's text as Markdown.

    is_xhtml: whether the page is XHTML. Its end tags are complete, and an HTML parser would
        misread its empty elements (`<title/>`).

    Raises InputError for a page that is too large or too deeply nested.
    """
    from bs4 import BeautifulSoup
    from bs4.element import Declaration, ProcessingInstruction

    if len(page) > MAX_CHARS:
        size = f"{MAX_CHARS >> 20} million characters"
        raise InputError(f"{name}: an HTML page of more than {size}; split the file")
    too_deep = InputError(f"{name}: its HTML is nested too deeply to be read")
    if not is_xhtml and not page.lstrip().startswith("<?xml"):
        if _num_unclosed(page) > _MAX_UNCLOSED:
            raise too_deep
        page = _with_all_tags(page)
    with warnings.catch_warnings():
        # Beautiful Soup warns about XHTML in an HTML parser, and about short texts that look like
        # paths.
        warnings.simplefilter("ignore")
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
    """Return the page with the end tags that authors may omit, added where a browser adds them."""
    from selectolax.lexbor import LexborHTMLParser

    return LexborHTMLParser(page).html or ""


def _num_unclosed(page: str) -> int:
    """Return the number of elements that lack a required end tag.

    lexbor's time grows with its square.
    """
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
