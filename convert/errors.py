"""The errors a conversion raises."""

from __future__ import annotations

import difflib
from collections.abc import Collection


class ConvertError(Exception):
    """A checkpoint cannot be converted, or an output cannot be written.

    The message is one line: the file (and tensor) it is about, what is wrong with it, and the way
    out. Everything else that escapes from this package is a bug.
    """


class DiskError(ConvertError):
    """A disk that is full, gone or failing: with that mended, the conversion can be resumed."""


def unknown(what: str, name: str, known: Collection[str]) -> ConvertError:
    """The error of a name that is none of the `known` ones, with near matches."""
    near = difflib.get_close_matches(name.upper(), known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(known)}"
    return ConvertError(f"unknown {what} {name!r}; {hint}")
