"""Writes the elements of an HTML page as Markdown."""

from __future__ import annotations

import re
from typing import Any

from bs4.element import Tag
from markdownify import MarkdownConverter

from l4cli.documents.formats import notation
from l4cli.documents.formats.html.tables import MAX_COLUMNS, span
from l4cli.documents.formats.numerals import letters, roman

# Elements that stand beside text without a space in the page's source, but apart from it on screen.
_BLOCKS = (
    "address", "aside", "center", "details", "dialog", "fieldset", "figure", "footer", "form",
    "header", "hgroup", "legend", "main", "menu", "nav", "search", "summary",
)  # fmt: skip
_APART = ("button", "meter", "progress", "output", "text", "textarea")  # "text" is SVG's
_PLAIN = ("audio", "b", "em", "i", "kbd", "mark", "samp", "strong", "u", "video")
_NOTE = re.compile(r"\b(?:doc-)?note-?ref\b|footnote-?ref|\bfootnote\b|\bendnote\b|\breference\b")
_NOTE_WORDS = ("noteref", "footnote-ref", "sdfootnoteanc", "sdendnoteanc", "sdfootnotesym")
_INDENTED = re.compile(r"^(?=.*\S)", re.MULTILINE)
_SELECTABLE = ("checkbox", "radio")
_UNSEEN_INPUTS = ("hidden", "password", "file", "image", "color", "range")
_MAX_LETTERED = 702  # "zz"


class PageConverter(MarkdownConverter):
    """Converts a parsed page. It counts the pictures that have no text to replace them."""

    def __init__(self) -> None:
        super().__init__(
            heading_style="ATX",
            bullets="-",
            escape_asterisks=False,
            escape_underscores=False,
            escape_misc=False,
        )
        self.num_pictures = 0

    def convert_img(self, el: Tag, _text: str, parent_tags: set[str]) -> str:
        alternative = str(el.get("alt") or "")
        self.num_pictures += not alternative and not _is_tiny(el)
        return alternative

    def convert_sup(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return notation.note(text) if _is_note(el) else notation.raised(text)

    def convert_sub(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return notation.lowered(text)

    def convert_a(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        words = _words(el, "epub:type", "role", "class")
        is_note = any(word in _NOTE_WORDS for word in words) and el.find("sup") is None
        return notation.note(text) if is_note and el.find_parent("sup") is None else text

    def convert_tspan(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        """Return a part of a text in a drawing, apart if it has a place of its own."""
        shift = str(el.get("baseline-shift") or "")
        if shift in ("super", "sub"):
            return notation.raised(text) if shift == "super" else notation.lowered(text)
        return notation.apart(text) if el.has_attr("x") or el.has_attr("y") else text

    def convert_del(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        inside = text.strip()
        if not inside or "_noformat" in parent_tags or "\n\n" in inside:
            return text
        return text.replace(inside, f"~~{inside}~~")

    convert_s = convert_strike = convert_del

    def convert_rt(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        """Return the reading of a word (ruby) in brackets, unless the page has brackets."""
        ruby = el.find_parent("ruby")
        return text if ruby and ruby.find("rp") else f"({text.strip()})"

    def convert_td(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        """Return a cell in one line. If it spans columns, empty cells follow."""
        cell = " ".join(text.split("\n")).strip().replace("|", r"\|")
        return f" {cell}{' |' * span(el, 'colspan', MAX_COLUMNS)}"

    convert_th = convert_td

    def convert_option(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        choices = el.find_parent(["select", "datalist"])
        is_marked = choices is not None and choices.find("option", selected=True) is not None
        mark = ("[x] " if el.has_attr("selected") else "[ ] ") if is_marked else ""
        if "_inline" in parent_tags:
            return f" {mark}{text.strip()};"
        return f"\n- {mark}{text.strip() or el.get('label') or ''}\n"

    def convert_optgroup(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return _block(self, el, f"{el.get('label') or ''}\n{text}", parent_tags)

    def convert_input(self, el: Tag, _text: str, parent_tags: set[str]) -> str:
        kind = str(el.get("type") or "text").lower()
        if kind in _SELECTABLE:
            return notation.apart("[x]" if el.has_attr("checked") else "[ ]")
        return "" if kind in _UNSEEN_INPUTS else notation.apart(str(el.get("value") or ""))

    def convert_li(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        text = text.strip()
        if not text:
            return "\n"
        label = f"{el.get(LABEL) or '-'} "
        indented = _INDENTED.sub(" " * len(label), text)
        return f"{label}{indented[len(label) :]}\n"


LABEL = "data-l4-label"  # the attribute of a list's item that holds its number


def number_lists(soup: Any) -> None:
    """Give each item of an ordered list its number as the page shows it."""
    for ordered in soup("ol"):
        items = list(ordered.find_all("li", recursive=False))
        step = -1 if ordered.has_attr("reversed") else 1
        number = _number(ordered.get("start"), len(items) if step < 0 else 1)
        for item in items:
            number = _number(item.get("value"), number)
            item[LABEL] = f"{_label(number, str(item.get('type') or ordered.get('type') or '1'))}."
            number += step


def _label(number: int, kind: str) -> str:
    if kind in ("a", "A") and 0 < number <= _MAX_LETTERED:
        text = letters(number)
    elif kind in ("i", "I"):
        text = roman(number)
    else:
        return str(number)
    return text.upper() if kind.isupper() else text


def _number(value: object, default: int) -> int:
    try:
        return int(str(value)[:9]) if value is not None else default
    except ValueError:
        return default


def _is_note(sup: Tag) -> bool:
    """Whether a superscript refers to a note: it is a link, or is marked as a note's number."""
    link = sup.find_parent("a")
    if sup.find("a", href=True) is not None:
        return True
    if link is not None and link.get_text(strip=True) == sup.get_text(strip=True):
        return True
    return any(_NOTE.search(word) for word in _words(sup, "epub:type", "role", "class"))


def _words(element: Tag, *names: str) -> list[str]:
    """Return the words of some attributes, lower-case, without the prefix of `doc-noteref`."""
    words: list[str] = []
    for name in names:
        value = element.get(name) or ""
        words += str(value if isinstance(value, str) else " ".join(value)).lower().split()
    return [word.removeprefix("doc-") for word in words]


def _is_tiny(picture: Tag) -> bool:
    """Whether a picture is a pixel that counts visitors, or a spacer."""
    return str(picture.get("width")) in ("0", "1") or str(picture.get("height")) in ("0", "1")


def _plain(_self: Any, _el: Tag, text: str, parent_tags: set[str]) -> str:
    return text


def _apart(_self: Any, _el: Tag, text: str, parent_tags: set[str]) -> str:
    return notation.apart(text)


def _block(_self: Any, _el: Tag, text: str, parent_tags: set[str]) -> str:
    inside = text.strip()
    around = " " if "_inline" in parent_tags else "\n\n"
    return f"{around}{inside}{around}" if inside else ""


for _name in _PLAIN:
    setattr(PageConverter, f"convert_{_name}", _plain)
for _name in _APART:
    setattr(PageConverter, f"convert_{_name}", _apart)
for _name in _BLOCKS:
    setattr(PageConverter, f"convert_{_name}", _block)
