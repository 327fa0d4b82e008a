"""Ids of files and batches. They become names on disk, so no other text may pass for one."""

from __future__ import annotations

import re
import secrets
from typing import Literal

Kind = Literal["file", "batch"]
_PREFIXES = {"file": "file-", "batch": "batch_"}
_NUM_BYTES = 12


def new_id(kind: Kind) -> str:
    """Return an id that nothing else has."""
    return _PREFIXES[kind] + secrets.token_hex(_NUM_BYTES)


def is_id(kind: Kind, given: object) -> bool:
    """Whether a value is what `new_id` may have returned. Only such values become paths."""
    pattern = f"{_PREFIXES[kind]}[0-9a-f]{{{2 * _NUM_BYTES}}}"
    return isinstance(given, str) and re.fullmatch(pattern, given, re.ASCII) is not None
