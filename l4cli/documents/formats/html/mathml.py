"""Writes MathML as a line of text: `x = (−b ± sqrt(b^2 − 4 a c))/(2 a)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bs4.element import Comment, NavigableString, Tag

from l4cli.documents.formats.formulas import fraction, joined, root, row, with_scripts
from l4cli.documents.formats.notation import script

_TEX = ("application/x-tex", "TeX", "LaTeX")
_UNSEEN = ("annotation", "annotation-xml", "mphantom", "none", "mprescripts")


def linear(math: Tag) -> str:
    """Return a formula as text; its LaTeX source, if the page has it."""
    for annotation in math.find_all("annotation"):
        if annotation.get("encoding") in _TEX:
            return " ".join(annotation.get_text().split())
    return joined([_text(math)])


def _text(node: object) -> str:
    if isinstance(node, NavigableString):
        return "" if isinstance(node, Comment) else " ".join(node.split())
    if not isinstance(node, Tag):
        return ""
    name = _name(node)
    if name in _UNSEEN:
        return ""
    children = [child for child in node.children if isinstance(child, Tag)]
    if name == "mmultiscripts":
        return _multiscripts(children)
    if name == "msqrt":
        return root(_row(children))
    if name in _WRITERS:
        return _WRITERS[name]([*map(_text, children), "", "", ""])
    if name in _BRACKETS:
        opening, between, closing = _BRACKETS[name]
        inside = between.join(map(_text, children))
        return f"{node.get('open', opening)}{inside}{node.get('close', closing)}"
    return _row(children) if children else " ".join(node.get_text().split())


def _name(element: Tag) -> str:
    """Return an element's name without its prefix."""
    return element.name.rpartition(":")[2]


def _row(children: Sequence[Tag]) -> str:
    return row([(_name(child) == "mo", _text(child)) for child in children])


def _multiscripts(children: Sequence[Tag]) -> str:
    """Return a base with scripts after it, and before it if <mprescripts> separates them."""
    names = [_name(child) for child in children]
    texts = [_text(child) for child in children]
    end = names.index("mprescripts") if "mprescripts" in names else len(names)
    return _alternating(texts[end + 1 :]) + "".join(texts[:1]) + _alternating(texts[1:end])


def _alternating(texts: Sequence[str]) -> str:
    """Return scripts that are lowered and raised in turn."""
    return "".join(script("_^"[index % 2], text) for index, text in enumerate(texts))


# What is written for an element, from the texts of its children and empty ones after them.
_WRITERS: dict[str, Callable[[Sequence[str]], str]] = {
    "semantics": lambda parts: parts[0],
    "mfrac": lambda parts: fraction(parts[0], parts[1]),
    "mroot": lambda parts: root(parts[0], parts[1]),
    "msub": lambda parts: with_scripts(parts[0], parts[1]),
    "munder": lambda parts: with_scripts(parts[0], parts[1]),
    "msup": lambda parts: with_scripts(parts[0], "", parts[1]),
    "mover": lambda parts: with_scripts(parts[0], "", parts[1]),
    "msubsup": lambda parts: with_scripts(*parts[:3]),
    "munderover": lambda parts: with_scripts(*parts[:3]),
}
# The text before, between and after the children of an element.
_BRACKETS = {
    "mtable": ("[", "; ", "]"),
    "mtr": ("", ", ", ""),
    "mlabeledtr": ("", ", ", ""),
    "mfenced": ("(", ", ", ")"),
}
