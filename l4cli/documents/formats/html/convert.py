"""Converts HTML to Markdown: keeps headings, lists, tables and code, drops decoration.

Emphasis and links become plain text, because a passage quoted from the text must be found in the
page. Superscripts, subscripts and formulas are written in a line (`notation.py`), struck text
between `~~`.
"""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING

from l4cli.documents.formats.converted import Text
from l4cli.documents.formats.notation import apart, in_line, without_marks
from l4cli.errors import InputError

if TYPE_CHECKING:
    from bs4 import BeautifulSoup

MAX_CHARS = 64 << 20  # a parsed page takes about 30 bytes of memory per character
_UNSEEN = ("head", "title", "script", "style", "template", "noscript", "iframe", "object", "desc")
# Formulas that a page repeats beside their MathML, as KaTeX, MathJax and MediaWiki write them.
_REPEATED = (
    "katex-html",
    "MathJax_Preview",
    "mwe-math-fallback-image-inline",
    "mwe-math-fallback-image-display",
)
_MUST_CLOSE = re.compile(
    r"<(/?)(?:div|span|b|i|em|strong|font|small|big|blockquote|section|sup|sub|ul|ol|table|svg"
    r"|math|mrow)\b",
    re.I,
)
_MAX_UNCLOSED = 10_000
_BLANK_LINES = re.compile(r"\n{3,}")
_TRAILING_SPACES = re.compile(r"[ \t]+\n")


def html_to_markdown(
    page: str, name: str, *, is_xhtml: bool = False, has_marks: bool = False, styles: str = ""
) -> Text:
    """Return a page's text as Markdown; pictures with a text of their own are that text.

    is_xhtml: whether the page is XHTML. Its end tags are complete, and an HTML parser would
        misread its empty elements (`<title/>`).
    has_marks: whether the marks of `notation.py` in it are meant.
    styles: CSS rules that the page links to.

    Raises InputError for a page that is too large or too deeply nested.
    """
    from bs4 import BeautifulSoup
    from bs4.element import Declaration, ProcessingInstruction

    from l4cli.documents.formats.html.markdown import PageConverter

    if len(page) > MAX_CHARS:
        size = f"{MAX_CHARS >> 20} million characters"
        raise InputError(f"{name}: an HTML page of more than {size}; split the file")
    too_deep = InputError(f"{name}: its HTML is nested too deeply to be read")
    if _depth(page) > _MAX_UNCLOSED:
        raise too_deep
    if not is_xhtml and not page.lstrip().startswith("<?xml"):
        page = _with_all_tags(page)
    with warnings.catch_warnings():
        # Beautiful Soup warns about XHTML in an HTML parser, and about short texts that look like
        # paths.
        warnings.simplefilter("ignore")
        soup = BeautifulSoup(page if has_marks else without_marks(page), "html.parser")
    converter = PageConverter()
    try:
        for node in soup.find_all(
            string=lambda node: isinstance(node, (Declaration, ProcessingInstruction))
        ):
            node.extract()
        _prepare(soup, styles)
        text = in_line(str(converter.convert_soup(soup)))
    except RecursionError:
        raise too_deep from None
    text = _BLANK_LINES.sub("\n\n", _TRAILING_SPACES.sub("\n", text)).strip("\n")
    return Text(text, {"picture": converter.num_pictures})


def _prepare(soup: BeautifulSoup, styles: str) -> None:
    """Remove what a reader does not see, and make elements plain that Markdown does not have."""
    from l4cli.documents.formats.html.markdown import number_lists
    from l4cli.documents.formats.html.mathml import linear
    from l4cli.documents.formats.html.styles import apply_styles
    from l4cli.documents.formats.html.tables import prepare_tables

    styles += "".join(style.get_text() for style in soup("style"))
    for element in soup(_UNSEEN):
        element.decompose()
    for element in soup(class_=_REPEATED):
        element.decompose()
    for formula in soup("math"):
        formula.replace_with(apart(linear(formula)))
    apply_styles(soup, styles)
    number_lists(soup)
    prepare_tables(soup)


def _with_all_tags(page: str) -> str:
    """Return the page with the end tags that authors may omit, added where a browser adds them."""
    from selectolax.lexbor import LexborHTMLParser, SelectolaxError

    try:
        return LexborHTMLParser(page).html or ""
    except SelectolaxError:  # HTML has no errors; only memory can be short
        raise MemoryError from None


def _depth(page: str) -> int:
    """Return how deep elements that must be closed are nested.

    lexbor's time grows with its square.
    """
    depth = deepest = 0
    for match in _MUST_CLOSE.finditer(page):
        depth = max(0, depth - 1) if match[1] else depth + 1
        deepest = max(deepest, depth)
    return deepest
