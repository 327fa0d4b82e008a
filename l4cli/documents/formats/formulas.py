"""Writes the parts of a formula in a line of text; MathML and Word's formulas share it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from l4cli.documents.formats.notation import grouped, script

_UNSEEN_OPERATORS = dict.fromkeys(map(ord, "\u2061\u2062\u2063\u2064\u200b"), " ")
_INFIX = re.compile(r"[=<>≤≥≠≈≡∼≃≅∈∉⊂⊆∪∩∧∨→⇒⇔↔×÷·∗⋅±∓+−–-]|:=")
_CLOSING = frozenset(")]|!′")


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
