"""Filters in the place of Jinja's own: they count what they make, and keep its trace."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from jinja2 import pass_environment
from jinja2.exceptions import SecurityError
from jinja2.filters import make_attrgetter

from l4cli.prompt.budget import OverBudgetError
from l4cli.prompt.counting import CountingEnvironment
from l4cli.prompt.traced import Traced

_MAX_INDENT = 100  # spaces


@pass_environment
def _join(
    environment: CountingEnvironment, value: Iterable[Any], d: Any = "", attribute: Any = None
) -> str:
    if attribute is not None:
        value = map(make_attrgetter(environment, attribute), value)
    return environment.concat(_with(str(d), map(environment.text, value)))


def _with(gap: str, parts: Iterable[str]) -> Iterator[str]:
    for number, part in enumerate(parts):
        if number and gap:
            yield gap
        yield part


@pass_environment
def _replace(
    environment: CountingEnvironment, s: Any, old: Any, new: Any, count: int | None = None
) -> str:
    text = s if isinstance(s, Traced) else Traced(str(s), ())
    environment.budget.replace(text, str(old), str(new))
    return text.replace(str(old), str(new), -1 if count is None else count)


@pass_environment
def _indent(
    environment: CountingEnvironment,
    s: Any,
    width: int | str = 4,
    first: bool = False,
    blank: bool = False,
) -> str:
    """As Jinja's own filter, which loses the trace."""
    space = width if isinstance(width, str) else " " * width
    first_line, *lines = (s + "\n").splitlines()
    pieces = [space, first_line] if first else [first_line]
    for line in lines:
        pieces += ["\n", space, line] if line or blank else ["\n", line]
    return environment.concat(pieces)


@pass_environment
def _sum(
    environment: CountingEnvironment, value: Iterable[Any], attribute: Any = None, start: Any = 0
) -> Any:
    """Of numbers only: the lists of a list can be many times as long together."""
    if not isinstance(start, (int, float)):
        raise SecurityError("sum adds numbers only")
    return sum(
        value if attribute is None else map(make_attrgetter(environment, attribute), value), start
    )


@pass_environment
def _tojson(
    environment: CountingEnvironment,
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    if indent is not None and not isinstance(indent, str) and indent > _MAX_INDENT:
        raise OverBudgetError(f"it indents JSON by {indent:.3g} spaces")
    environment.budget.make_text_of(value)
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _striptags(value: Any) -> str:
    """As Jinja's own filter, which takes for ever over many comments. The trace is lost."""
    text = str(value)
    kept, at = [], 0
    while (start := text.find("<", at)) >= 0:
        end_mark = "-->" if text.startswith("<!--", start) else ">"
        end = text.find(end_mark, start)
        if end < 0:
            break
        kept.append(text[at:start])
        at = end + len(end_mark)
    kept.append(text[at:])
    return html.unescape(" ".join("".join(kept).split()))


def _safe(value: Any) -> Any:
    """Nothing is escaped here, so that nothing needs to be marked as safe."""
    return value


FILTERS: Mapping[str, Callable[..., Any]] = {
    "join": _join,
    "replace": _replace,
    "indent": _indent,
    "safe": _safe,
    "striptags": _striptags,
    "sum": _sum,
    "tojson": _tojson,
}
