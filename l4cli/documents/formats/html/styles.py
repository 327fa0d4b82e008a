"""Finds the text that a page's CSS raises, lowers or strikes out, and makes elements of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bs4 import BeautifulSoup
from bs4.element import Tag

_INLINE = ("span", "a", "small", "font", "em", "i", "b", "strong", "code", "u")
_CLASS = re.compile(r"\.([\w-]+)\s*(?:,|$)")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_LENGTH = re.compile(r"([-+]?\d*\.?\d+)\s*(%|em|rem|ex|px|pt)")
# The least shift that raises or lowers text; smaller ones only align pictures.
_LEAST = {"%": 12.0, "em": 0.12, "rem": 0.12, "ex": 0.25, "px": 2.5, "pt": 2.0}


def apply_styles(soup: BeautifulSoup, styles: str) -> None:
    """Turn inline elements into <sup>, <sub> or <del> if their style or a class says so.

    styles: CSS rules. Only those that select by a class matter.
    """
    classes = dict(_classes(styles))
    for element in soup(_INLINE):
        name = _effect(str(element.get("style") or ""))
        for word in element.get("class") or ():
            name = name or classes.get(word, "")
        if name and not _has_already(element, name):
            if element.name == "a":
                element.wrap(soup.new_tag(name))
            else:
                element.name = name


def _has_already(element: Tag, name: str) -> bool:
    """Whether the element itself has the effect by its own tag or its parent's."""
    if name == "del":
        return element.find_parent(["del", "s"]) is not None
    return element.find(["sup", "sub"]) is not None or (
        element.parent is not None and element.parent.name in ("sup", "sub")
    )


def _classes(styles: str) -> Iterator[tuple[str, str]]:
    """Yield the classes that rules select, with the element that stands for the rule's effect."""
    for rule in _COMMENT.sub("", styles).split("}"):
        selectors, _, declarations = rule.rpartition("{")
        if name := _effect(declarations):
            for selected in _CLASS.finditer(selectors.strip()):
                yield selected[1], name


def _effect(declarations: str) -> str:
    """Return the element with the effect of some CSS declarations; "" for none of these."""
    values = {}
    for declaration in declarations.split(";"):
        key, _, value = declaration.partition(":")
        values[key.strip().lower()] = value.strip().lower()
    rise = _rise(values)
    if rise:
        return "sup" if rise > 0 else "sub"
    decoration = values.get("text-decoration", "") + values.get("text-decoration-line", "")
    return "del" if "line-through" in decoration else ""


def _rise(values: dict[str, str]) -> int:
    """Return 1 for raised text, -1 for lowered text."""
    align = values.get("vertical-align", "")
    for word, rise in (("super", 1), ("sub", -1)):
        if align.split(" ")[0] == word:
            return rise
    rise = _sign(align)
    if not rise and values.get("position") == "relative":
        rise = _sign(values.get("bottom", "")) or -_sign(values.get("top", ""))
    return rise


def _sign(length: str) -> int:
    """Return the sign of a CSS length, 0 if it is too small to raise or lower text."""
    found = _LENGTH.match(length)
    if found is None or abs(float(found[1])) < _LEAST[found[2]]:
        return 0
    return 1 if float(found[1]) > 0 else -1
