"""Ids of files and batches. They become names on disk, so no other text may pass for one."""

from __future__ import annotations

import re
import secrets
import time
from typing import Literal

Kind = Literal["file", "batch"]
_PREFIXES = {"file": "file-", "batch": "batch_"}
_DIGITS = 24


def new_id(kind: Kind) -> str:
    """Return an id that nothing else has. Ids in the order of their making are in that of text."""
    return f"{_PREFIXES[kind]}{time.time_ns():016x}{secrets.token_hex(4)}"


def is_id(kind: Kind, given: object) -> bool:
    """Whether a value is what `new_id` may have returned. Only such values become paths."""
    pattern = f"{_PREFIXES[kind]}[0-9a-f]{{{_DIGITS}}}"
    return isinstance(given, str) and re.fullmatch(pattern, given, re.ASCII) is not None
