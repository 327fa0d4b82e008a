"""What was measured of a model on this machine: rates, loading, how long a context it can use.

`l4 bench`, `l4 run` and `l4 ctx-test` leave their facts here; estimates of time and the choice of
settings rest on them. They are a convenience: what cannot be read is not known, what cannot be
written is forgotten, and nothing else is the worse for it.

    known = recall(Conditions(llm.fingerprint, kv_type="f16", n_threads=8))
    known.prefill_seconds(100_000), known.decode_tps(batch=4, depth=8192)    # None: not measured
    recall_effective_length(llm.fingerprint, "f16")                          # None: not tested

    facts.py   the facts and what is told from them: pure
    store.py   the file they are kept in
    others.py  whether other processes spoil what is being measured
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
