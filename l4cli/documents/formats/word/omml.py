"""Writes Word's formulas (Office Math) as a line of text."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree.ElementTree import Element

from l4cli.documents.formats.formulas import fraction, joined, root, with_scripts
from l4cli.documents.formats.notation import grouped, script

M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_PROPERTIES = ("Pr",)  # the end of the names of elements that hold settings


def linear(element: Element) -> str:
    """Return a formula as text."""
    return joined([_text(element)])


def _text(element: Element | None) -> str:
    if element is None:
        return ""
    name = element.tag.rpartition("}")[2]
    if name == "t":
        return element.text or ""
    write = _WRITERS.get(name)
    if write is not None and element.tag.startswith(M):
        return write(element)
    return joined([_text(child) for child in element if not child.tag.endswith(_PROPERTIES)])


def _part(element: Element, name: str) -> str:
    return _text(element.find(M + name))


def _parts(element: Element, name: str) -> list[str]:
    return [_text(child) for child in element.findall(M + name)]


def _setting(element: Element, path: Iterable[str], default: str) -> str:
    found = element.find("/".join(M + name for name in path))
    return default if found is None else found.get(f"{M}val", default)


def _nary(element: Element) -> str:
    sign = _setting(element, ("naryPr", "chr"), "∫")
    limits = with_scripts(sign, _part(element, "sub"), _part(element, "sup"))
    return f"{limits} {_part(element, 'e')}"


def _delimited(element: Element) -> str:
    opening = _setting(element, ("dPr", "begChr"), "(")
    closing = _setting(element, ("dPr", "endChr"), ")")
    between = _setting(element, ("dPr", "sepChr"), "|")
    return f"{opening}{between.join(_parts(element, 'e'))}{closing}"


def _before(element: Element) -> str:
    scripts = script("_", _part(element, "sub")) + script("^", _part(element, "sup"))
    return scripts + _part(element, "e")


def _function(element: Element) -> str:
    return f"{_part(element, 'fName')} {grouped(_part(element, 'e'))}"


def _matrix(element: Element) -> str:
    return f"[{'; '.join(', '.join(_parts(line, 'e')) for line in element.findall(f'{M}mr'))}]"


def _accented(element: Element) -> str:
    return with_scripts(_part(element, "e"), "", _setting(element, ("accPr", "chr"), "^"))


_WRITERS = {
    "f": lambda element: fraction(_part(element, "num"), _part(element, "den")),
    "sSup": lambda element: with_scripts(_part(element, "e"), "", _part(element, "sup")),
    "sSub": lambda element: with_scripts(_part(element, "e"), _part(element, "sub")),
    "sSubSup": lambda element: with_scripts(
        _part(element, "e"), _part(element, "sub"), _part(element, "sup")
    ),
    "limLow": lambda element: with_scripts(_part(element, "e"), _part(element, "lim")),
    "limUpp": lambda element: with_scripts(_part(element, "e"), "", _part(element, "lim")),
    "rad": lambda element: root(_part(element, "e"), _part(element, "deg")),
    "sPre": _before,
    "nary": _nary,
    "d": _delimited,
    "func": _function,
    "m": _matrix,
    "eqArr": lambda element: "; ".join(_parts(element, "e")),
    "acc": _accented,
}
