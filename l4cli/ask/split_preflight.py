"""Computes, before reading in parts starts, its parts, calls, tokens, memory and time.

This module is pure: counts, the model's shape, the machine and measured rates are passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from l4cli.amounts import NOT_MEASURED, human_size, roughly
from l4cli.engine.sizing import ContextSize
from l4cli.engine.sizing import Demand as ContextDemand
from l4cli.fit.choose import PlacementLimits, Verdict, place
from l4cli.fit.hardware import Hardware
from l4cli.fit.memory import ContextSpec, MemoryUse, memory_use
from l4cli.fit.shape import ModelShape
from l4cli.speeds import Measured


@dataclass(frozen=True, slots=True)
class SplitDemand:
    """The calls and tokens that reading in parts takes.

    num_parts: parts of the documents.
    num_questions: the number of questions.
    num_document_tokens: tokens of all parts.
    num_prompt_tokens: tokens of all prompts for notes.
    num_shared_tokens: those of them that the previous prompt has as well, as a common prefix.
    max_note: the most tokens of a note.
    max_answer: the most tokens of an answer.
    room_for_notes: the most tokens that the notes on one question may have together; if they have
        more, they are merged.
    context: the demand of the prompts for notes on a context.
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
        """Whether notes may be so long that they have to be merged, which takes more calls."""
        return self.num_parts * self.max_note > self.room_for_notes

    @property
    def most_prefill_tokens(self) -> int:
        """The most prompt tokens to prefill, for notes and answers, without merging."""
        notes = min(self.num_parts * self.max_note, self.room_for_notes)
        return self.num_prompt_tokens - self.num_shared_tokens + self.num_questions * notes

    @property
    def most_decode_tokens(self) -> int:
        """The most tokens to generate, for notes and answers, without merging."""
        return self.num_note_calls * self.max_note + self.num_questions * self.max_answer

    def seconds(self, measured: Measured | None, n_seq_max: int) -> float | None:
        """Return the most seconds that this takes at the measured rates; None if there are none.

        `n_seq_max` is the number of sequences that run at once.
        """
        speeds = measured.speeds(n_seq_max) if measured else None
        if speeds is None:
            return None
        return speeds.seconds(self.most_prefill_tokens, self.most_decode_tokens)


@dataclass(frozen=True, slots=True)
class SplitPreflight:
    """The memory and time that a demand takes, and whether it fits this machine.

    demand: the calls and tokens.
    spec: the context that would be made.
    use: the memory it takes.
    usable: bytes of memory that are free for it, on all devices together.
    verdict: whether it fits.
    seconds: the most seconds it takes; None if no rate was measured.
    """

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
        """Return the numbers for --json, without merging: tokens, calls, bytes, most seconds."""
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
    """Compute what the demand takes in a context of that size.

    demand: the calls and tokens.
    size: the size of the context.
    shape: the model's shape.
    hardware: the machine.
    kv_type: the type of the KV cache.
    gpu_layers: layers on the GPU; -1 for all.
    measured: measured rates, for the time; None if there are none.

    Raises UsageError for an unknown KV type.
    """
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
    """Return the numbers for display, as pairs of a label and a value."""
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
            f"{human_size(use.kv)}, {human_size(use.total)} in all" + misfit.get(told.verdict, ""),
        ),
        ("compute buffers", human_size(use.context - use.kv)),
        ("free memory", human_size(told.usable)),
        ("time", _time(told.seconds)),
    ]


def summary(demand: SplitDemand, seconds: float | None) -> str:
    """Return the most important numbers in one line, to show before a run."""
    time = f"; {_time(seconds)}" if seconds is not None else ""
    parts = f"{demand.num_parts:,} part{'s' * (demand.num_parts > 1)}"
    return f"{demand.num_document_tokens:,} tokens in {parts}; calls: {_calls(demand)}{time}"


def _calls(demand: SplitDemand) -> str:
    more = "; more if notes must be merged" if demand.may_merge else ""
    answers = f"{demand.num_answer_calls:,} for the answer{'s' * (demand.num_questions > 1)}"
    return f"{demand.num_note_calls:,} for notes, {answers}{more}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return NOT_MEASURED
    return f"{roughly(seconds)} at most"
