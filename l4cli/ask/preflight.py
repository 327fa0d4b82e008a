"""Computes, before reading starts, what it takes, and what would work if it does not fit.

This module is pure: token counts, the model's shape, the machine and measured rates are passed in.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from l4cli.amounts import NOT_MEASURED, human_size, roughly
from l4cli.engine.kv import padded
from l4cli.engine.pieces import SEGMENT_TOKENS
from l4cli.errors import ContextOverflowError
from l4cli.fit.choose import KV_TYPES, PlacementLimits, Verdict, largest_context, place
from l4cli.fit.hardware import Hardware
from l4cli.fit.memory import ContextSpec, MemoryUse, memory_use, most_per_token
from l4cli.fit.shape import ModelShape
from l4cli.speeds import EffectiveLength, Measured

AS_DEFAULT = PlacementLimits(gpu_layers=-1, cpu_moe=0)  # how models are loaded by default
# Questions decoded at once. More gain little, and each needs its own cells in the chunked layers.
MAX_BRANCHES = 8
_FAIR_ANSWER = 256  # tokens; where as much is left for an answer, the documents are not too long


@dataclass(frozen=True, slots=True)
class Demand:
    """The sizes of a reading.

    num_document_tokens: tokens of all documents.
    num_question_tokens: tokens of the longest question.
    max_tokens: the most tokens of an answer.
    num_questions: the number of questions.
    """

    num_document_tokens: int
    num_question_tokens: int
    max_tokens: int
    num_questions: int

    @property
    def longest(self) -> int:
        """Tokens of the documents, one question and its answer."""
        return self.num_document_tokens + self.branch

    @property
    def branch(self) -> int:
        """Tokens that one question and its answer add."""
        return self.num_question_tokens + self.max_tokens


@dataclass(frozen=True, slots=True)
class KvTypeRow:
    """One KV type: bytes of the KV cache (`kv`), bytes of everything (`total`), and the verdict."""

    kv_type: str
    kv: int
    total: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Preflight:
    """What a reading takes, and whether it fits this machine.

    demand: the token counts.
    spec: the context that would be made.
    num_branches: questions decoded at once.
    n_ctx_train: the context length that the model was trained for; 0 if unknown.
    use: the memory it takes.
    usable: bytes of memory that are free for it, on all devices together.
    verdict: whether it fits.
    missing: bytes that are lacking if the verdict is "too large".
    kv_types: the memory and the verdict for each KV type.
    largest_ctx: tokens of the largest context that would fit.
    seconds: the time to prefill the documents; None if no rate was measured on this machine.
    stored_bytes: bytes that the reading cache will keep.
    effective: the measured effective length of the model; None if it was not measured.
    fits_otherwise_placed: whether it would fit with an automatic placement of the weights.
    """

    demand: Demand
    spec: ContextSpec
    num_branches: int
    n_ctx_train: int
    use: MemoryUse
    usable: int
    verdict: Verdict
    missing: int
    kv_types: tuple[KvTypeRow, ...]
    largest_ctx: int
    seconds: float | None
    stored_bytes: int
    effective: EffectiveLength | None = None
    fits_otherwise_placed: bool = False

    @property
    def fits(self) -> bool:
        return self.verdict != "too large" and not self.is_too_long

    @property
    def is_too_long(self) -> bool:
        """Whether it is longer than the model was trained for; no machine can help then."""
        return bool(self.n_ctx_train) and self.demand.longest > self.n_ctx_train

    @property
    def exceeds_effective(self) -> bool:
        """Whether measurements show that the model does not use so long a context well."""
        effective = self.effective
        if effective is None or effective.n_tokens >= effective.n_longest:
            return False
        return self.demand.longest > effective.n_tokens

    @property
    def _way_to_shorten(self) -> str:
        demand = self.demand
        left = self.n_ctx_train - demand.longest + demand.max_tokens
        if left >= min(demand.max_tokens, _FAIR_ANSWER):
            return f"lower -n, the most tokens of an answer, to {left:,}"
        return "use --split, which reads the documents in parts, or give fewer documents"

    def check(self) -> None:
        """Raise ContextOverflowError, with the numbers and the alternatives, unless it fits."""
        if self.fits:
            return
        demand = self.demand
        needed = (
            f"{demand.num_document_tokens:,} tokens of documents and {demand.branch:,} for a "
            f"question and its answer make {demand.longest:,}"
        )
        if self.is_too_long:
            raise ContextOverflowError(
                f"{needed}; the model was trained for {self.n_ctx_train:,}: {self._way_to_shorten}"
            )
        ways = [f"--kv-type {row.kv_type}" for row in self._smaller() if row.verdict != "too large"]
        placing = ["--gpu-layers auto"] if self.fits_otherwise_placed else []
        ways = [*placing, *ways[:1], "--split, which reads the documents in parts"]
        room = self.largest_ctx - demand.branch
        if room > 0:
            ways.append(f"documents of up to {room:,} tokens")
        ways.append(f"a machine with {human_size(self.missing)} more memory")
        raise ContextOverflowError(
            f"{needed}; they need {human_size(self.use.kv)} of KV cache, and the weights need "
            f"{human_size(self.use.weights)}: {human_size(self.missing)} more than is free here. "
            f"What works: {', or '.join(ways)}"
        )

    def _smaller(self) -> list[KvTypeRow]:
        names = [row.kv_type for row in self.kv_types]
        return list(self.kv_types[names.index(self.spec.kv_type) + 1 :])

    def as_json(self) -> dict[str, Any]:
        """Return the numbers for --json, in tokens, bytes and seconds."""
        return {
            "document_tokens": self.demand.num_document_tokens,
            "question_tokens": self.demand.num_question_tokens,
            "max_tokens": self.demand.max_tokens,
            "n_ctx": self.spec.n_ctx,
            "n_ctx_train": self.n_ctx_train,
            "at_once": self.num_branches,
            "kv_type": self.spec.kv_type,
            "bytes": {
                "weights": self.use.weights,
                "weights_copied": self.use.repacked,
                "kv": self.use.kv,
                "scratch": self.use.context - self.use.kv,
                "total": self.use.total,
                "usable": self.usable,
                "stored": self.stored_bytes,
            },
            "kv_types": {
                row.kv_type: {"kv": row.kv, "total": row.total, "fits": row.verdict != "too large"}
                for row in self.kv_types
            },
            "seconds": self.seconds,
            "effective_length": self.effective.n_tokens if self.effective else None,
            "verdict": "too long" if self.is_too_long else self.verdict,
        }


def preflight(
    demand: Demand,
    shape: ModelShape,
    hardware: Hardware,
    *,
    kv_type: str,
    limits: PlacementLimits = AS_DEFAULT,
    measured: Measured | None = None,
    effective: EffectiveLength | None = None,
) -> Preflight:
    """Compute the context that the demand needs, with as many questions at once as fit.

    demand: the token counts.
    shape: the model's shape.
    hardware: the machine.
    kv_type: the type of the KV cache.
    limits: how the weights are placed.
    measured: measured rates, for the time; None if there are none.
    effective: the model's measured effective length; None if unknown.

    Raises UsageError for an unknown KV type.
    """
    wanted = max(1, min(demand.num_questions, MAX_BRANCHES))
    for branches in range(wanted, 0, -1):
        spec = _spec(demand, branches, kv_type, shape.n_ctx_train)
        fit = place(shape, spec, hardware, limits)
        if fit.verdict == "fits":
            break
    types = dict.fromkeys((*KV_TYPES, kv_type))
    specs = [replace(spec, kv_type=other) for other in types]
    copied = hardware.repacks if fit.placement.repack else frozenset[str]()
    uses = [_use(shape, spec, copied) for spec in specs]
    return Preflight(
        demand=demand,
        spec=spec,
        num_branches=branches,
        n_ctx_train=shape.n_ctx_train,
        use=_use(shape, spec, copied),
        usable=hardware.ram_usable + sum(gpu.usable for gpu in hardware.gpus),
        verdict=fit.verdict,
        missing=sum(each.n_bytes for each in fit.shortfalls),
        kv_types=tuple(
            KvTypeRow(each.kv_type, use.kv, use.total, place(shape, each, hardware, limits).verdict)
            for each, use in zip(specs, uses, strict=True)
        ),
        largest_ctx=largest_context(shape, spec, hardware, limits, verdict="from disk"),
        seconds=measured.prefill_seconds(demand.num_document_tokens) if measured else None,
        stored_bytes=stored_bytes(shape, demand.num_document_tokens, kv_type),
        effective=effective,
        fits_otherwise_placed=place(shape, spec, hardware).verdict != "too large",
    )


def stored_bytes(shape: ModelShape, num_tokens: int, kv_type: str) -> int:
    """Return the bytes on disk of a stored prefix of `num_tokens` tokens.

    Whole segments hold only the global layers; the tail at the end holds all layers.
    """
    if num_tokens < 1:
        return 0
    tail = (num_tokens - 1) % SEGMENT_TOKENS + 1
    everywhere = most_per_token(shape.cache, kv_type)
    in_all, in_global = (
        sum(shape.cache.widths),
        sum(width for width, window in shape.cache.layers if not window),
    )
    share = in_global / in_all if in_all else 1
    return round((num_tokens - tail) * everywhere * share + tail * everywhere)


def _spec(demand: Demand, branches: int, kv_type: str, n_ctx_train: int) -> ContextSpec:
    """Return the context for a demand.

    It has one sequence for the documents, one for each question, and one through which states are
    saved.
    """
    n_ctx = padded(demand.num_document_tokens + branches * demand.branch)
    if n_ctx_train:
        n_ctx = max(min(n_ctx, n_ctx_train), 1)
    return ContextSpec(n_ctx, branches + 2, kv_type=kv_type, unified=True)


def _use(shape: ModelShape, spec: ContextSpec, copied: Collection[str]) -> MemoryUse:
    return memory_use(
        shape,
        n_ctx=spec.n_ctx,
        n_seq_max=spec.n_seq_max,
        n_ubatch=spec.n_ubatch,
        kv_type=spec.kv_type,
        unified=spec.unified,
        repack=copied,
    )


def lines(preflight: Preflight, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the numbers for display, as pairs of a label and a value."""
    demand, use = preflight.demand, preflight.use
    return [
        ("documents", f"{len(names)}, {demand.num_document_tokens:,} tokens"),
        (
            "context",
            f"{preflight.spec.n_ctx:,} tokens, {preflight.num_branches} "
            f"question{'s' if preflight.num_branches > 1 else ''} at once",
        ),
        *(
            (
                f"KV cache {row.kv_type}",
                f"{human_size(row.kv)}, {human_size(row.total)} in all"
                + {"too large": ": too large", "from disk": ": weights read from disk: slow"}.get(
                    row.verdict, ""
                ),
            )
            for row in preflight.kv_types
        ),
        ("compute buffers", human_size(use.context - use.kv)),
        ("free memory", human_size(preflight.usable)),
        ("in the reading cache", human_size(preflight.stored_bytes)),
        (
            "time to read",
            NOT_MEASURED if preflight.seconds is None else roughly(preflight.seconds),
        ),
    ]
