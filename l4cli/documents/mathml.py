"""Writes MathML as a line of text: `x = (-b + sqrt(b^2 - 4 a c))/(2 a)`."""

from __future__ import annotations

from collections.abc import Sequence

from bs4.element import Comment, NavigableString, Tag

from l4cli.documents.formulas import fraction, joined, root, row, with_scripts
from l4cli.documents.notation import script

_TEX = "application/x-tex"


def linear(math: Tag) -> str:
    """Return a formula as text; its LaTeX source, if the page has it."""
    for annotation in math.find_all("annotation"):
        if annotation.get("encoding") in (_TEX, "TeX", "LaTeX"):
            return " ".join(annotation.get_text().split())
    return joined([_text(math)])


def _text(node: object) -> str:
    if isinstance(node, NavigableString):
        return "" if isinstance(node, Comment) else " ".join(node.split())
    if not isinstance(node, Tag):
        return ""
    name = node.name.rpartition(":")[2]
    children = [child for child in node.children if isinstance(child, Tag)]
    parts = [_text(child) for child in children]
    padded = [*parts, "", "", ""]
    if name in ("annotation", "annotation-xml", "mphantom", "none", "mprescripts"):
        return ""
    if name == "semantics":
        return parts[0] if parts else ""
    if name == "mfrac":
        return fraction(padded[0], padded[1])
    if name == "msqrt":
        return root(_row(children))
    if name == "mroot":
        return root(padded[0], padded[1])
    if name in ("msub", "munder"):
        return with_scripts(padded[0], padded[1])
    if name in ("msup", "mover"):
        return with_scripts(padded[0], "", padded[1])
    if name in ("msubsup", "munderover"):
        return with_scripts(*padded[:3])
    if name == "mmultiscripts":
        return _multiscripts(children)
    if name == "mtable":
        return f"[{'; '.join(parts)}]"
    if name in ("mtr", "mlabeledtr"):
        return ", ".join(parts)
    if name == "mfenced":
        inside = ", ".join(parts)
        return f"{node.get('open', '(')}{inside}{node.get('close', ')')}"
    if children:
        return _row(children)
    return " ".join(node.get_text().split())


def _row(children: Sequence[Tag]) -> str:
    return row([(child.name.rpartition(":")[2] == "mo", _text(child)) for child in children])


def _multiscripts(children: Sequence[Tag]) -> str:
    """Return a base with scripts after it, and before it if <mprescripts> separates them."""
    names = [child.name.rpartition(":")[2] for child in children]
    texts = [_text(child) for child in children]
    end = names.index("mprescripts") if "mprescripts" in names else len(names)
    after, before = texts[1:end], texts[end + 1 :]
    written = "".join(
        script("_" if index % 2 == 0 else "^", text) for index, text in enumerate(before)
    )
    written += texts[0] if texts else ""
    return written + "".join(
        script("_" if index % 2 == 0 else "^", text) for index, text in enumerate(after)
    )
