"""Compares the metadata that decide how a model runs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from convert.gguf.array import GGUFArray
from convert.types import Oddity

ARCHITECTURE = "general.architecture"
_TOKENIZER = "tokenizer."
_UNLIKE = ("tokenizer.chat_template",)  # often mended afterwards; evaluated texts do not use it


def field_oddities(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[Oddity]:
    """Yield the fields that differ.

    ours: the metadata of the GGUF that is looked at. theirs: those of the reference.
    """
    if ours.get(ARCHITECTURE) != theirs.get(ARCHITECTURE):
        yield Oddity(ARCHITECTURE, None, _differs(ours.get(ARCHITECTURE), theirs[ARCHITECTURE]))
        return
    prefixes = (f"{theirs.get(ARCHITECTURE)}.", _TOKENIZER)
    for key in dict.fromkeys((*theirs, *ours)):
        if not key.startswith(prefixes) or key.startswith(_UNLIKE):
            continue
        if key not in ours:
            yield Oddity(key, None, f"is missing; the reference has {_shown(theirs[key])}")
        elif key not in theirs:
            yield Oddity(key, None, f"is {_shown(ours[key])}; the reference does not have it")
        elif not _is_same(ours[key], theirs[key]):
            yield Oddity(key, None, _differs(ours[key], theirs[key]))


def _is_same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float) and isinstance(theirs, float):
        return bool(np.float32(ours) == np.float32(theirs))
    return type(ours) is type(theirs) and bool(ours == theirs)


def _differs(ours: Any, theirs: Any) -> str:
    if isinstance(ours, GGUFArray) and isinstance(theirs, GGUFArray):
        if len(ours) != len(theirs):
            return f"has {len(ours):,} entries, the reference has {len(theirs):,}"
        pairs = zip(_items(ours), _items(theirs), strict=True)
        numbers = [at for at, (one, other) in enumerate(pairs) if one != other]
        first = f", the first is number {numbers[0]}" if numbers else ""
        return f"differs from the reference's in {len(numbers):,} entries{first}"
    return f"is {_shown(ours)}, the reference has {_shown(theirs)}"


def _items(array: GGUFArray) -> list[Any]:
    return array.byte_strings() if array.kind == "string" else list(array)


def _shown(value: Any) -> str:
    if isinstance(value, GGUFArray):
        return f"an array of {len(value):,}"
    if isinstance(value, float):
        return f"{value:.8g}"
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else f"{value[:40]}…")
    return str(value)
