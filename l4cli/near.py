"""Names of options and settings that are near to what a user typed. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SAME = {  # what other tools call l4's options
    "ctx-size": "ctx",
    "context": "ctx",
    "num-ctx": "ctx",
    "n-predict": "max-tokens",
    "num-predict": "max-tokens",
    "ngl": "gpu-layers",
    "temp": "temperature",
    "repeat-penalty": "repetition-penalty",
}


def nearest(name: str, known: Iterable[str], *, n: int = 1) -> list[str]:
    """Return the known names that `name` may mean.

    That is the one with the same meaning in another tool, or else all that begin with it, or else
    up to `n` similar ones. Dashes in front, and _ for -, make no difference.
    """
    names = {_plain(each): each for each in known}
    asked = _plain(name)
    same = _SAME.get(asked)
    if same in names:
        return [names[same]]
    longer = [each for plain, each in names.items() if asked and plain.startswith(asked)]
    return longer or [names[near] for near in difflib.get_close_matches(asked, names, n=n)]


def _plain(name: str) -> str:
    return name.lstrip("-").replace("_", "-").lower()
