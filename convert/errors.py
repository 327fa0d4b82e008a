"""The errors that this package raises."""

from __future__ import annotations

import difflib
from collections.abc import Collection


class ConvertError(Exception):
    """A file cannot be read or written, or a checkpoint cannot be converted.

    The message is one line: the file (and tensor), what is wrong with it, and what to do. Any other
    exception from this package is a bug.
    """


class DiskError(ConvertError):
    """A disk is full, gone or failing. The conversion can be resumed once that is solved."""


def unknown(what: str, name: str, known: Collection[str]) -> ConvertError:
    """A ConvertError that says `name` is not one of `known`, and suggests the nearest names.

    what: the kind of name, such as "type".
    """
    begun = [each for each in known if name and each.startswith(name.upper())]
    # The usual one of its size first: Q4_K_M for Q4.
    begun.sort(key=lambda each: (not each.endswith("_K_M"), "_K" not in each))
    near = begun[:3] or difflib.get_close_matches(name.upper(), known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(known)}"
    return ConvertError(f"unknown {what} {name!r}; {hint}")
