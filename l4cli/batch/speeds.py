"""How fast a model ran on this machine the last time: what a dry run's estimate of time rests on.

One small JSON file under the state directory holds, for each model file and number of slots, the
rates of the last run that was long enough to tell. It is a convenience: where it cannot be read or
written there is no estimate, and nothing else is the worse for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from l4cli.registry import state_dir

_MIN_TOKENS = 32  # of each kind: fewer say more of the clock than of the machine


@dataclass(frozen=True, slots=True)
class Speeds:
    """Tokens per second: of prompts while prompts are computed, of answers while all decode."""

    prefill_tps: float
    decode_tps: float

    def seconds(self, num_prefill_tokens: int, num_decode_tokens: int) -> float:
        """How long so many tokens take."""
        return num_prefill_tokens / self.prefill_tps + num_decode_tokens / self.decode_tps


@dataclass(slots=True)
class SpeedMeter:
    """Tells prefill from decode in the steps of a run, which compute both together.

    Steps in which every request decodes give the one rate; of the others, the time that their
    decoding takes at that rate is taken off, and what is left was for prompts.
    """

    decode_seconds: float = 0.0
    num_decode_tokens: int = 0
    mixed_seconds: float = 0.0
    num_mixed_decode_tokens: int = 0

    def add(self, seconds: float, num_decode_tokens: int, *, has_prefill: bool) -> None:
        """One step: its time, and the tokens it sampled but for those that follow a prompt."""
        if has_prefill:
            self.mixed_seconds += seconds
            self.num_mixed_decode_tokens += num_decode_tokens
        else:
            self.decode_seconds += seconds
            self.num_decode_tokens += num_decode_tokens

    def speeds(self, num_prefill_tokens: int) -> Speeds | None:
        """The rates, `num_prefill_tokens` being all prompts'; None where too little was seen."""
        if min(self.num_decode_tokens, num_prefill_tokens) < _MIN_TOKENS:
            return None
        decode_tps = self.num_decode_tokens / self.decode_seconds
        for_prompts = self.mixed_seconds - self.num_mixed_decode_tokens / decode_tps
        if for_prompts <= 0:
            return None
        return Speeds(num_prefill_tokens / for_prompts, decode_tps)


def remember(model: str, n_seq_max: int, speeds: Speeds) -> None:
    """Keep the rates of a run for the next dry run."""
    known = {**_read(), _key(model, n_seq_max): asdict(speeds)}
    path = _path()
    part = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(known, indent=1))
        part.replace(path)


def recall(model: str, n_seq_max: int) -> Speeds | None:
    """The rates of the last run of that model file, with the number of slots nearest to this."""
    known = _read()
    slots = [
        int(key.rpartition("x")[2])
        for key in known
        if re.fullmatch(rf"{re.escape(model)} x\d+", key)
    ]
    if not slots:
        return None
    found = known[_key(model, min(slots, key=lambda n: abs(n - n_seq_max)))]
    try:
        speeds = Speeds(**found) if isinstance(found, dict) else None
        return speeds if speeds and speeds.prefill_tps > 0 and speeds.decode_tps > 0 else None
    except TypeError:
        return None


def _key(model: str, n_seq_max: int) -> str:
    return f"{model} x{n_seq_max}"


def _path() -> Path:
    return state_dir() / "speeds.json"


def _read() -> Mapping[str, object]:
    try:
        known = json.loads(_path().read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
