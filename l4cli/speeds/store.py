"""The file of facts: JSON lines in the state directory, one fact per line, the latest last."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from l4cli.native.cpu import cpu_model
from l4cli.paths import state_dir
from l4cli.record_file import locked, read_records, write_records
from l4cli.speeds.facts import (
    AttentionReach,
    Conditions,
    DecodeRate,
    EffectiveLength,
    Fact,
    LoadTime,
    Measured,
    PrefillRate,
    RunSpeeds,
)

_MOST_FACTS = 2000  # the oldest are dropped
_KINDS = {
    kind.KIND: kind
    for kind in (RunSpeeds, PrefillRate, DecodeRate, LoadTime, AttentionReach, EffectiveLength)
}
# The fields of Conditions that say where weights lie, with the value for records that lack them.
_PLACEMENT = {"n_gpu_layers": 0, "n_cpu_moe": 0, "repack": True, "cards": ""}
_POSITIVE = {"tps", "prefill_tps", "decode_tps", "batch", "n_ubatch", "n_seq_max"}


def recall(conditions: Conditions) -> Measured:
    """The facts measured under `conditions`; never raises."""
    return recall_placements(conditions).get(conditions, Measured())


def recall_placements(conditions: Conditions) -> dict[Conditions, Measured]:
    """The facts for every placement of the weights, all else as in `conditions`; never raises."""
    where = _where(conditions)
    for name in _PLACEMENT:
        where.pop(name, None)
    facts: dict[Conditions, list[Fact]] = {}
    for record in _read():
        fact = _fact(record) if _is_of(record, where) else None
        placed = {name: record.get(name, default) for name, default in _PLACEMENT.items()}
        is_placed = all(type(placed[name]) is type(_PLACEMENT[name]) for name in _PLACEMENT)
        if fact and is_placed and not isinstance(fact, EffectiveLength):
            facts.setdefault(replace(conditions, **placed), []).append(fact)
    return {placed: _measured(found) for placed, found in facts.items()}


def _measured(facts: Sequence[Fact]) -> Measured:
    return Measured(
        runs=tuple(fact for fact in facts if isinstance(fact, RunSpeeds)),
        prefill=tuple(fact for fact in facts if isinstance(fact, PrefillRate)),
        decode=tuple(fact for fact in facts if isinstance(fact, DecodeRate)),
        load=next((fact for fact in facts if isinstance(fact, LoadTime)), None),
        reach=next((f for f in facts if isinstance(f, AttentionReach)), AttentionReach()),
    )


def remember(conditions: Conditions, *facts: Fact, busy: bool = False) -> bool:
    """Store facts; each replaces an earlier one of its kind and key. Never raises.

    busy: whether the machine was busy with other work. Such facts never replace those from an idle
        machine, and are dropped as soon as an idle machine gives a fact of their kind.

    Returns whether all facts were stored.
    """
    where = _where(conditions) | ({"busy": True} if busy else {})
    return _write([_record(where, fact) for fact in facts])


def recall_effective_length(model: str, kv_type: str) -> EffectiveLength | None:
    """The result of `l4 ctx-test` for a model file (`LLM.fingerprint`); None if it has not run."""
    where = {"model": model, "kv_type": kv_type}
    for record in _read():
        if record.get("kind") == EffectiveLength.KIND and _is_of(record, where):
            fact = _fact(record)
            return fact if isinstance(fact, EffectiveLength) else None
    return None


def remember_effective_length(model: str, kv_type: str, found: EffectiveLength) -> None:
    """Store the result, unless it only confirms that of a longer test."""
    known = recall_effective_length(model, kv_type)
    has_no_limit = found.n_tokens == found.n_longest
    if known and has_no_limit and found.n_longest <= min(known.n_tokens, known.n_longest - 1):
        return
    _write([_record({"model": model, "kv_type": kv_type}, found)])


def _where(conditions: Conditions) -> dict[str, Any]:
    where = {**asdict(conditions), "machine": _machine(), "version": _version()}
    if not conditions.cards:  # records from before this field existed lack it
        del where["cards"]
    return where


@functools.cache
def _machine() -> str:
    """The processors of this machine: several machines can share a home directory."""
    return f"{os.cpu_count()} x {cpu_model()}"


@functools.cache
def _version() -> str:
    """The versions of l4 and of llama-cpp-python, which computes."""
    try:
        return " ".join(metadata.version(name) for name in ("l4", "llama-cpp-python"))
    except metadata.PackageNotFoundError:  # run from a checkout
        return ""


def _record(where: Mapping[str, Any], fact: Fact | EffectiveLength) -> dict[str, Any]:
    return {"kind": fact.KIND, **where, **asdict(fact)}


def _is_of(record: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    return all(record.get(name) == value for name, value in where.items())


def _fact(record: Mapping[str, Any]) -> Fact | EffectiveLength | None:
    """The fact in a record; None if it is damaged or makes no sense."""
    kind = _KINDS.get(str(record.get("kind")))
    if kind is None:
        return None
    values = {name: record.get(name) for name in kind.__slots__}
    for value in values.values():
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if not math.isfinite(value) or value < 0:
            return None
    if any(values[name] == 0 for name in _POSITIVE & values.keys()):
        return None
    return kind(**values)  # type: ignore[arg-type]


def _write(records: Sequence[dict[str, Any]]) -> bool:
    """Add records to the file; return whether all of them are in it."""
    path = _path()
    with contextlib.suppress(OSError), locked(path):
        known = list(_read())
        added = _better(records, than=known)
        replaced = {_key(record) for record in added}
        kept = [record for record in _better(known, than=added) if _key(record) not in replaced]
        write_records(path, [*kept, *added][-_MOST_FACTS:])
        return len(added) == len(records)
    return False


def _better(
    records: Sequence[dict[str, Any]], *, than: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The records, but none of a busy machine if `than` has one of its kind from an idle machine.

    A curve through points from both would describe neither.
    """
    idle = {_kind(record) for record in than if not record.get("busy")}
    return [record for record in records if not record.get("busy") or _kind(record) not in idle]


def _key(record: Mapping[str, Any]) -> str:
    """A string that is equal for two measurements of the same fact."""
    kind = _KINDS.get(str(record.get("kind")))
    values = set(kind.__slots__) - set(kind.KEY) if kind else set()
    return _without(record, values)


def _kind(record: Mapping[str, Any]) -> str:
    """A string that is equal for two facts of one kind under the same conditions."""
    kind = _KINDS.get(str(record.get("kind")))
    return _without(record, set(kind.__slots__) if kind else set())


def _without(record: Mapping[str, Any], names: Set[str]) -> str:
    return json.dumps(
        {name: value for name, value in record.items() if name not in names and name != "busy"}
    )


def _path() -> Path:
    return state_dir() / "speeds.jsonl"


def _read() -> Iterator[dict[str, Any]]:
    return read_records(_path())
