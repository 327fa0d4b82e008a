"""What reading in parts takes, told before it begins: parts, calls, tokens, memory, time.

Pure: it is given counts, a model's shape, a machine and measured rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from l4cli.amounts import gib, roughly
from l4cli.engine.sizing import ContextSize
from l4cli.engine.sizing import Demand as ContextDemand
from l4cli.fit.choose import PlacementLimits, Verdict, place
from l4cli.fit.hardware import Hardware
from l4cli.fit.memory import ContextSpec, MemoryUse, memory_use
from l4cli.fit.shape import ModelShape
from l4cli.speeds import Measured


@dataclass(frozen=True, slots=True)
class SplitDemand:
    """What the documents and the questions ask of a model.

    Tokens: `num_document_tokens` of the parts, `num_prompt_tokens` of what the model is given for
    notes on them, of which `num_shared_tokens` are those of the prompt before. At most `max_note`
    for each note; notes on a question are merged where they take more than `room_for_notes`.
    """

    num_parts: int
    num_questions: int
    num_document_tokens: int
    num_prompt_tokens: int
    num_shared_tokens: int
    max_note: int
    max_answer: int
    room_for_notes: int
    context: ContextDemand

    @property
    def num_note_calls(self) -> int:
        return self.num_parts * self.num_questions

    @property
    def num_answer_calls(self) -> int:
        return self.num_questions

    @property
    def may_merge(self) -> bool:
        """Whether notes can be so long that they have to be merged: with more calls."""
        return self.num_parts * self.max_note > self.room_for_notes

    @property
    def most_prefill_tokens(self) -> int:
        """Prompt tokens to compute, but for merging: of notes, and of answers from them."""
        notes = min(self.num_parts * self.max_note, self.room_for_notes)
        return self.num_prompt_tokens - self.num_shared_tokens + self.num_questions * notes

    @property
    def most_decode_tokens(self) -> int:
        """Tokens to generate, but for merging, if all that is said is as long as it may be."""
        return self.num_note_calls * self.max_note + self.num_questions * self.max_answer

    def seconds(self, measured: Measured | None, n_seq_max: int) -> float | None:
        """How long that takes at most, at the measured rates; None where there are none."""
        speeds = measured.speeds(n_seq_max) if measured else None
        if speeds is None:
            return None
        return speeds.seconds(self.most_prefill_tokens, self.most_decode_tokens)


@dataclass(frozen=True, slots=True)
class SplitPreflight:
    """A demand in a context of `spec` on a machine. Bytes, seconds."""

    demand: SplitDemand
    spec: ContextSpec
    use: MemoryUse
    usable: int
    verdict: Verdict
    seconds: float | None

    @property
    def fits(self) -> bool:
        return self.verdict != "too large"

    def as_json(self) -> dict[str, Any]:
        """Tokens, calls, bytes, seconds; the last at most, and without merging."""
        demand = self.demand
        return {
            "document_tokens": demand.num_document_tokens,
            "parts": demand.num_parts,
            "calls": {"notes": demand.num_note_calls, "answers": demand.num_answer_calls},
            "may_merge": demand.may_merge,
            "prompt_tokens": demand.num_prompt_tokens,
            "prompt_tokens_shared": demand.num_shared_tokens,
            "answer_tokens_at_most": demand.most_decode_tokens,
            "n_ctx": self.spec.n_ctx,
            "at_once": self.spec.n_seq_max,
            "kv_type": self.spec.kv_type,
            "bytes": {
                "weights": self.use.weights,
                "kv": self.use.kv,
                "scratch": self.use.context - self.use.kv,
                "total": self.use.total,
                "usable": self.usable,
            },
            "seconds_at_most": self.seconds,
            "verdict": self.verdict,
        }


def split_preflight(
    demand: SplitDemand,
    size: ContextSize,
    shape: ModelShape,
    hardware: Hardware,
    *,
    kv_type: str,
    gpu_layers: int = -1,
    measured: Measured | None = None,
) -> SplitPreflight:
    """The demand in a context of that size. UsageError for a KV type there is not."""
    spec = ContextSpec(size.n_ctx, size.n_seq_max, kv_type=kv_type, unified=size.unified)
    limits = PlacementLimits(gpu_layers=gpu_layers if hardware.gpus else None, cpu_moe=0)
    fit = place(shape, spec, hardware, limits)
    return SplitPreflight(
        demand=demand,
        spec=spec,
        use=memory_use(
            shape,
            n_ctx=spec.n_ctx,
            n_seq_max=spec.n_seq_max,
            n_ubatch=spec.n_ubatch,
            kv_type=kv_type,
            unified=spec.unified,
            repack=hardware.repacks if fit.placement.repack else frozenset(),
        ),
        usable=hardware.ram_usable + sum(gpu.usable for gpu in hardware.gpus),
        verdict=fit.verdict,
        seconds=demand.seconds(measured, size.n_seq_max),
    )


def lines(told: SplitPreflight, names: Sequence[str]) -> list[tuple[str, str]]:
    """The numbers as people read them: what, how much."""
    demand, use = told.demand, told.use
    misfit = {"too large": ": too large", "from disk": ": weights read from disk: slow"}
    return [
        ("documents", f"{len(names)}, {demand.num_document_tokens:,} tokens"),
        ("parts", f"{demand.num_parts:,}"),
        ("calls", _calls(demand)),
        (
            "prompt tokens",
            f"{demand.num_prompt_tokens:,} for notes, {demand.num_shared_tokens:,} of them shared",
        ),
        ("notes and answers", f"at most {demand.most_decode_tokens:,} tokens"),
        ("context", f"{told.spec.n_ctx:,} tokens for {told.spec.n_seq_max} calls at once"),
        (
            f"KV cache {told.spec.kv_type}",
            f"{gib(use.kv)}, {gib(use.total)} in all" + misfit.get(told.verdict, ""),
        ),
        ("scratch", gib(use.context - use.kv)),
        ("free memory", gib(told.usable)),
        ("time", _time(told.seconds)),
    ]


def summary(demand: SplitDemand, seconds: float | None) -> str:
    """The same in a line, for who did not ask."""
    time = f"; {_time(seconds)}" if seconds is not None else ""
    parts = f"{demand.num_parts:,} part{'s' * (demand.num_parts > 1)}"
    return f"{demand.num_document_tokens:,} tokens in {parts}; calls: {_calls(demand)}{time}"


def _calls(demand: SplitDemand) -> str:
    more = "; more if notes must be merged" if demand.may_merge else ""
    answers = f"{demand.num_answer_calls:,} for the answer{'s' * (demand.num_questions > 1)}"
    return f"{demand.num_note_calls:,} for notes, {answers}{more}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "not known: no rate was measured yet"
    return f"{roughly(seconds)} at most"
