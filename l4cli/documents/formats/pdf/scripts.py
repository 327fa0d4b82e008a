"""Finds superscripts and subscripts of a PDF page by the places and sizes of its characters. Pure.

A script is a short run of characters beside a larger character, above or below its baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

# Shares of the font size of the line.
_SAME_LINE = 0.02  # baselines that differ by less are the same
_LEAST_RAISED, _LEAST_LOWERED = 0.1, 0.06
_MOST = 0.75  # a script is not further from the baseline
_OVERLAP, _GAP = 0.4, 0.45  # how far a script may be from the character before it
_SMALLER = 0.93  # a script of nearly the size of its line must be short
_SHORT = 4  # characters
_MAX_SCRIPT = 40  # characters


@dataclass(frozen=True, slots=True)
class Glyph:
    """A visible character: its index among PDFium's characters, and its origin in points."""

    index: int
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Script:
    """A script: the characters from `start` up to `end`.

    gap_before, gap_after: the characters between it and its neighbours in the line.
    """

    start: int
    end: int
    is_raised: bool
    gap_before: range
    gap_after: range


def scripts(
    glyphs: Sequence[Glyph],
    size_of: Callable[[int], float],
    right_of: Callable[[int], float],
) -> Iterator[Script]:
    """Yield the scripts of a page in order.

    size_of, right_of: return the font size and the right end of the character with an index. They
        are slow, so they are asked only where the baseline changes.
    """
    runs = list(_runs(glyphs))
    base: _Run | None = None  # the run that scripts are compared with
    base_end: Glyph | None = None  # the last glyph at or after the base in its line
    for number, run in enumerate(runs):
        following = runs[number + 1] if number + 1 < len(runs) else None
        if base and base_end and _is_script(run, base, base_end, following, size_of, right_of):
            yield _script(run, run.first.y > base.first.y, base_end, following, base)
            base_end = run.last
        elif base and base_end and _continues(run, base, base_end, size_of, right_of):
            base, base_end = run, run.last
        elif following and _leads(run, following, size_of, right_of):
            yield _script(run, True, None, following, following)
            base = base_end = None
        else:
            base, base_end = run, run.last


@dataclass(frozen=True, slots=True)
class _Run:
    """Glyphs with one baseline that follow each other."""

    first: Glyph
    last: Glyph
    n_glyphs: int


def _runs(glyphs: Sequence[Glyph]) -> Iterator[_Run]:
    first = last = None
    n_glyphs = 0
    for glyph in glyphs:
        if first is None or last is None or abs(glyph.y - last.y) > 0.05 or glyph.x < last.x:
            if first is not None and last is not None:
                yield _Run(first, last, n_glyphs)
            first, n_glyphs = glyph, 0
        last, n_glyphs = glyph, n_glyphs + 1
    if first is not None and last is not None:
        yield _Run(first, last, n_glyphs)


def _is_script(
    run: _Run,
    base: _Run,
    before: Glyph,
    following: _Run | None,
    size_of: Callable[[int], float],
    right_of: Callable[[int], float],
) -> bool:
    """Whether `run`, which follows the glyph `before`, is a script of `base`."""
    size = size_of(base.last.index)
    rise = run.first.y - base.first.y
    if not (_LEAST_RAISED * size <= rise <= _MOST * size) and not (
        _LEAST_LOWERED * size <= -rise <= _MOST * size
    ):
        return False
    # A script below another one stands beside the base itself.
    gap = min(
        run.first.x - right_of(before.index), run.first.x - right_of(base.last.index), key=abs
    )
    if not -_OVERLAP * size <= gap <= _GAP * size or run.n_glyphs > _MAX_SCRIPT:
        return False
    if size_of(run.first.index) < _SMALLER * size:
        return True
    returns = following is not None and abs(following.first.y - base.first.y) < _SAME_LINE * size
    is_shifted = abs(rise) >= 2 * _LEAST_RAISED * size and size_of(run.first.index) < 1.02 * size
    return is_shifted and returns and run.n_glyphs <= _SHORT


def _continues(
    run: _Run,
    base: _Run,
    before: Glyph,
    size_of: Callable[[int], float],
    right_of: Callable[[int], float],
) -> bool:
    """Whether `run` is the rest of the line of `base`, after a script that ends with `before`."""
    size = size_of(base.last.index)
    gap = run.first.x - right_of(before.index)
    return abs(run.first.y - base.first.y) < _SAME_LINE * size and -size < gap < 2 * size


def _leads(
    run: _Run,
    following: _Run,
    size_of: Callable[[int], float],
    right_of: Callable[[int], float],
) -> bool:
    """Whether `run` is a superscript at the beginning of a line, as of isotopes and footnotes."""
    size = size_of(following.first.index)
    rise = run.first.y - following.first.y
    gap = following.first.x - right_of(run.last.index)
    return (
        _LEAST_RAISED * size <= rise <= _MOST * size
        and -_OVERLAP * size <= gap <= _GAP * size
        and run.n_glyphs <= _SHORT
        and size_of(run.first.index) < _SMALLER * size
    )


def _script(
    run: _Run, is_raised: bool, before: Glyph | None, following: _Run | None, base: _Run
) -> Script:
    in_line = following is not None and abs(following.first.y - base.first.y) < 0.05
    beyond = in_line and following is not None and following.first.x >= run.first.x
    return Script(
        run.first.index,
        run.last.index + 1,
        is_raised,
        range(before.index + 1, run.first.index) if before else range(0),
        range(run.last.index + 1, following.first.index) if beyond and following else range(0),
    )
