"""Keeps the results of evaluations, under what identifies the model's file, for `l4 info`.

A JSON line each, in the state directory. Results are optional: one that cannot be read counts as
not there, one that cannot be written is dropped.

Of one model, text, context and reference the result over the most tokens is kept, or the newer of
two over as many. So what Ctrl-C left never replaces a whole result.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from convert.errors import ConvertError
from convert.gguf.model import GGUFModel, read_model
from l4cli.models.fingerprints import fingerprint_of, samples_digest
from l4cli.paths import state_dir
from l4cli.record_file import locked, read_records, write_records

_MOST = 1000  # the oldest are dropped
_KEY = ("fingerprint", "samples", "digest", "n_ctx", "against")


@dataclass(frozen=True, slots=True)
class Identity:
    """Identifies a model's file: its fingerprint, and a digest of a page of each tensor."""

    fingerprint: str
    samples: str

    @classmethod
    def of(cls, model: GGUFModel) -> Identity:
        """Return the identity of a model. Raises OSError."""
        return cls(fingerprint_of(model.files[0]), samples_digest(model))


@dataclass(frozen=True, slots=True)
class Kept:
    """A result.

    fingerprint, samples: the model's identity.
    text, digest: the text's name, and a digest of its content.
    chunks, tokens: how many were scored. is_partial: whether it was stopped.
    against: the identity of the reference, and reference its name; "" without one. The figures
        that need a reference are None without one.
    date: YYYY-MM-DD.
    """

    fingerprint: str
    samples: str
    text: str
    digest: str
    n_ctx: int
    chunks: int
    tokens: int
    is_partial: bool
    ppl: float
    ppl_error: float
    against: str
    reference: str
    base_ppl: float | None
    kld: float | None
    kld_error: float | None
    same_top: float | None
    date: str


def today() -> str:
    """Return the date as results have it."""
    return f"{datetime.now().astimezone():%Y-%m-%d}"


def keep(result: Kept) -> None:
    """Store a result, unless one over more tokens is known. Never raises."""
    path = _path()
    new = asdict(result)
    with contextlib.suppress(OSError), locked(path):
        known = list(read_records(path))
        same = [one for one in known if _key(one) == _key(new)]
        if any(isinstance(n := one.get("tokens"), int) and n > result.tokens for one in same):
            return
        others = [one for one in known if _key(one) != _key(new)]
        write_records(path, [*others, new][-_MOST:])


def recall(path: Path) -> list[Kept]:
    """Return what is known of the model with this (first) file, the newest first. Never raises."""
    with contextlib.suppress(OSError, ConvertError):
        fingerprint = fingerprint_of(path)
        found = [one for one in map(_kept, read_records(_path())) if one is not None]
        found = [one for one in found if one.fingerprint == fingerprint]
        if found:  # reading a page of each tensor takes longer than the header
            samples = samples_digest(read_model(path))
            return [one for one in reversed(found) if one.samples == samples]
    return []


def _key(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(record.get(name) for name in _KEY)


def _kept(record: Mapping[str, Any]) -> Kept | None:
    """Return a record as a result; None if it is damaged."""
    values = {name: record.get(name) for name in Kept.__slots__}
    numbers = {"ppl", "ppl_error", "base_ppl", "kld", "kld_error", "same_top"}
    for name, value in values.items():
        if name in numbers:
            is_usable = type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
            if not is_usable and (value is not None or name in ("ppl", "ppl_error")):
                return None
        elif name in ("n_ctx", "chunks", "tokens"):
            if type(value) is not int:
                return None
        elif name == "is_partial":
            if type(value) is not bool:
                return None
        elif not isinstance(value, str):
            return None
    return Kept(**values)  # type: ignore[arg-type]


def _path() -> Path:
    return state_dir() / "evaluations.jsonl"
