"""Writes MathML as a line of text: `x = (-b + sqrt(b^2 - 4 a c))/(2 a)`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bs4.element import Comment, NavigableString, Tag

from l4cli.documents.notation import grouped, script

_UNSEEN_OPERATORS = dict.fromkeys(map(ord, "\u2061\u2062\u2063\u2064\u200b"), " ")
_INFIX = re.compile(r"[=<>≤≥≠≈≡∼≃≅∈∉⊂⊆∪∩∧∨→⇒⇔↔×÷·∗⋅±∓+−–-]|:=")
_CLOSING = frozenset(")]|!′")
_TEX = "application/x-tex"


def linear(math: Tag) -> str:
    """Return a formula as text; its LaTeX source, if the page has it."""
    for annotation in math.find_all("annotation"):
        if annotation.get("encoding") in (_TEX, "TeX", "LaTeX"):
            return " ".join(annotation.get_text().split())
    return joined([_text(math)])


def joined(parts: Sequence[str]) -> str:
    """Join parts of a formula, with a space between letters and digits of two parts."""
    text = ""
    for part in parts:
        if text and part and (text[-1].isalnum() or text[-1] in ")]") and part[:1].isalnum():
            text += " "
        text += part
    return " ".join(text.split())


def operator(sign: str, *, is_infix: bool) -> str:
    """Return an operator, with spaces around it between two operands."""
    sign = sign.translate(_UNSEEN_OPERATORS)
    if sign in (",", ";"):
        return f"{sign} "
    return f" {sign} " if is_infix and _INFIX.fullmatch(sign) else sign


def row(parts: Sequence[tuple[bool, str]]) -> str:
    """Join the parts of a row; each is whether it is an operator, and its text."""
    written: list[str] = []
    for index, (is_operator, text) in enumerate(parts):
        was_operator, before = parts[index - 1] if index else (True, "")
        is_infix = not was_operator or before in _CLOSING
        written.append(operator(text, is_infix=is_infix) if is_operator else text)
    # Spaces around operators are kept; `joined` adds those between letters and digits.
    return joined(written)


def fraction(above: str, below: str) -> str:
    return f"{grouped(above)}/{grouped(below)}"


def root(inside: str, degree: str = "") -> str:
    return f"root({degree}, {inside})" if degree else f"sqrt({inside})"


def with_scripts(base: str, below: str = "", above: str = "") -> str:
    """Return a base with its index or lower limit, and its exponent or upper limit."""
    base = base if not base or len(base) == 1 else grouped(base)
    return f"{base}{script('_', below)}{script('^', above)}"


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
