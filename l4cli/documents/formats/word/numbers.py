"""Counts the numbered paragraphs of a Word document as Word does: `2.`, `(b)`, `1.3.2`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from l4cli.documents.formats.numerals import repeated_letters, roman

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_PLACEHOLDER = re.compile(r"%([1-9])")
_MAX_LEVEL = 8
_MAX_BASED_ON = 20  # styles that are based on each other


@dataclass(slots=True)
class _Level:
    """A level of a list: its first number, the format of its numbers, and the text around them."""

    start: int = 1
    kind: str = "decimal"
    text: str = ""
    style: str | None = None


@dataclass(slots=True)
class _List:
    """A list: its definition, and first numbers that replace the definition's."""

    definition: str
    levels: dict[int, _Level]
    restarts: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Numbered:
    """A paragraph's place in a list; `label` is None if it has a bullet."""

    list_id: str
    level: int
    label: str | None


class Numbering:
    """The lists of a document. `numbering` and `styles` are the roots of the parts, or None."""

    def __init__(self, numbering: Element | None, styles: Element | None) -> None:
        definitions = _definitions(numbering)
        self._lists: dict[str, _List] = {}
        for number in numbering.findall(f"{W}num") if numbering is not None else ():
            definition = _value(number, f"{W}abstractNumId")
            levels = dict(definitions.get(definition, {}))
            restarts = {}
            for override in number.findall(f"{W}lvlOverride"):
                level = _integer(override.get(f"{W}ilvl"), 0)
                if (replaced := override.find(f"{W}lvl")) is not None:
                    levels[level] = _level(replaced)
                if (first := _value(override, f"{W}startOverride")) != "":
                    restarts[level] = _integer(first, 1)
            list_id = number.get(f"{W}numId", "")
            self._lists[list_id] = _List(definition, levels, restarts)
        self._styles = {
            style.get(f"{W}styleId", ""): style
            for style in (styles.findall(f"{W}style") if styles is not None else ())
        }
        self._counts: dict[str, dict[int, int]] = {}  # for each definition and level
        self._restarted: set[tuple[str, int]] = set()

    def count(self, paragraph: Element) -> Numbered | None:
        """Count a paragraph; call this once for each, in order. None if it is in no list."""
        list_id, level = self._place(paragraph)
        known = self._lists.get(list_id)
        if known is None:
            return None
        level = max(0, min(level, _MAX_LEVEL))
        settings = known.levels.get(level, _Level(text=f"%{level + 1}."))
        counts = self._counts.setdefault(known.definition, {})
        first = settings.start
        if level in known.restarts and (list_id, level) not in self._restarted:
            self._restarted.add((list_id, level))
            counts.pop(level, None)
            first = known.restarts[level]
        counts[level] = counts.get(level, first - 1) + 1
        for deeper in [other for other in counts if other > level]:
            del counts[deeper]
        if settings.kind == "bullet":  # it counts, too: what is below it begins again
            return Numbered(list_id, level, None)
        label = _PLACEHOLDER.sub(
            lambda match: _number(known, counts, int(match[1]) - 1), settings.text
        )
        return Numbered(list_id, level, label)

    def _place(self, paragraph: Element) -> tuple[str, int]:
        """Return the list and level of a paragraph, as it says itself or its style does."""
        properties = paragraph.find(f"{W}pPr")
        if properties is None:
            return "", 0
        numbers = properties.find(f"{W}numPr")
        style = _value(properties, f"{W}pStyle")
        if numbers is not None and _value(numbers, f"{W}numId"):
            list_id = _value(numbers, f"{W}numId")
            stated = _value(numbers, f"{W}ilvl")
            return list_id, _integer(stated, self._level_of_style(list_id, style))
        for _ in range(_MAX_BASED_ON):
            found = self._styles.get(style)
            if found is None:
                break
            numbers = found.find(f"{W}pPr/{W}numPr")
            if numbers is not None and _value(numbers, f"{W}numId"):
                list_id = _value(numbers, f"{W}numId")
                level = _integer(_value(numbers, f"{W}ilvl"), 0)
                return list_id, self._level_of_style(list_id, style, level)
            style = _value(found, f"{W}basedOn")
        return "", 0

    def _level_of_style(self, list_id: str, style: str, default: int = 0) -> int:
        known = self._lists.get(list_id)
        if known is not None and style:
            for level, settings in known.levels.items():
                if settings.style == style:
                    return level
        return default


def _definitions(numbering: Element | None) -> dict[str, dict[int, _Level]]:
    """Return the levels of each definition (abstractNum) of a list."""
    if numbering is None:
        return {}
    definitions: dict[str, dict[int, _Level]] = {}
    by_style: dict[str, str] = {}
    linked: dict[str, str] = {}
    for definition in numbering.findall(f"{W}abstractNum"):
        name = definition.get(f"{W}abstractNumId", "")
        definitions[name] = {
            _integer(level.get(f"{W}ilvl"), 0): _level(level)
            for level in definition.findall(f"{W}lvl")
        }
        if style := _value(definition, f"{W}styleLink"):
            by_style[style] = name
        if style := _value(definition, f"{W}numStyleLink"):
            linked[name] = style
    for name, style in linked.items():
        definitions[name] = definitions[name] or definitions.get(by_style.get(style, ""), {})
    return definitions


def _level(element: Element) -> _Level:
    return _Level(
        start=_integer(_value(element, f"{W}start"), 1),
        kind=_value(element, f"{W}numFmt") or "decimal",
        text=_value(element, f"{W}lvlText"),
        style=_value(element, f"{W}pStyle") or None,
    )


def _number(known: _List, counts: dict[int, int], level: int) -> str:
    """Return the present number of a level, in the level's format."""
    settings = known.levels.get(level, _Level())
    number = counts.get(level, settings.start)
    kind = settings.kind
    if kind == "none":
        return ""
    if kind in ("lowerRoman", "upperRoman"):
        text = roman(number)
    elif kind in ("lowerLetter", "upperLetter") and number > 0:
        text = repeated_letters(number)
    elif kind == "decimalZero":
        return f"{number:02}"
    else:
        return str(number)
    return text.upper() if kind.startswith("upper") else text


def _value(element: Element, path: str) -> str:
    found = element.find(path)
    return "" if found is None else found.get(f"{W}val", "")


def _integer(text: str | None, default: int) -> int:
    try:
        return int(text[:9]) if text else default
    except ValueError:
        return default
