"""Measurements of a model on this machine: token rates, load time, usable context length.

`l4 bench`, `l4 run` and `l4 ctx-test` store their facts here. Time estimates and the choice of
settings use them. Facts are optional: one that cannot be read counts as not measured, one that
cannot be written is dropped, and nothing else fails.

    known = recall(Conditions(llm.fingerprint, kv_type="f16", n_threads=8))
    known.prefill_seconds(100_000), known.decode_tps(batch=4, depth=8192)    # None: not measured
    recall_effective_length(llm.fingerprint, "f16")                          # None: not tested

    facts.py   the facts, and estimates made from them: pure
    store.py   the file that keeps them
    others.py  whether other processes disturb a measurement
"""

from l4cli.speeds.facts import (
    DEFAULT_N_UBATCH,
    AttentionReach,
    Conditions,
    DecodeRate,
    EffectiveLength,
    Fact,
    LoadTime,
    Measured,
    PrefillRate,
    RunSpeeds,
    Speeds,
)
from l4cli.speeds.others import OtherWork, is_busy
from l4cli.speeds.store import (
    recall,
    recall_effective_length,
    recall_placements,
    remember,
    remember_effective_length,
)

__all__ = [
    "DEFAULT_N_UBATCH",
    "AttentionReach",
    "Conditions",
    "DecodeRate",
    "EffectiveLength",
    "Fact",
    "LoadTime",
    "Measured",
    "OtherWork",
    "PrefillRate",
    "RunSpeeds",
    "Speeds",
    "is_busy",
    "recall",
    "recall_effective_length",
    "recall_placements",
    "remember",
    "remember_effective_length",
]
