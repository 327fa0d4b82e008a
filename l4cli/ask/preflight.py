"""What reading documents takes, told before it begins; and what would work where it does not fit.

Pure: it is given token counts, a model's shape, a machine and measured rates.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from l4cli.amounts import gib, roughly
from l4cli.engine.kv import padded
from l4cli.engine.pieces import SEGMENT_TOKENS
from l4cli.errors import ContextOverflowError
from l4cli.fit.choose import KV_TYPES, PlacementLimits, Verdict, largest_context, place
from l4cli.fit.hardware import Hardware
from l4cli.fit.memory import ContextSpec, MemoryUse, memory_use, most_per_token
from l4cli.fit.shape import ModelShape
from l4cli.speeds import EffectiveLength, Measured

AS_DEFAULT = PlacementLimits(gpu_layers=-1, cpu_moe=0)  # how models are loaded unless told
MAX_BRANCHES = 8  # questions decoded at once; more gain little, and each has chunked cells


@dataclass(frozen=True, slots=True)
class Demand:
    """Tokens: of the documents, of the longest question, of an answer at most."""

    num_document_tokens: int
    num_question_tokens: int
    max_tokens: int
    num_questions: int

    @property
    def longest(self) -> int:
        """One question with its answer behind the documents."""
        return self.num_document_tokens + self.branch

    @property
    def branch(self) -> int:
        """What one question and its answer add."""
        return self.num_question_tokens + self.max_tokens


@dataclass(frozen=True, slots=True)
class KvTypeRow:
    """What one KV type takes, in bytes, and whether it fits."""

    kv_type: str
    kv: int
    total: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Preflight:
    """Before reading: `n_ctx` tokens for `num_branches` questions at once. Bytes, seconds.

    `missing` bytes of `verdict` "too large" are lacking, `fits_otherwise_placed` says whether it
    would fit with the weights placed by us. `seconds` is None where this machine's
    rate is not known, `stored_bytes` what the prefix store will keep.
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
        """Whether it is longer than the model was trained for, whatever the machine."""
        return bool(self.n_ctx_train) and self.demand.longest > self.n_ctx_train

    @property
    def exceeds_effective(self) -> bool:
        """Whether the model was measured not to use so long a context well."""
        effective = self.effective
        if effective is None or effective.n_tokens >= effective.n_longest:
            return False
        return self.demand.longest > effective.n_tokens

    def check(self) -> None:
        """ContextOverflowError with the numbers, and what would work, unless it fits."""
        if self.fits:
            return
        demand = self.demand
        needed = (
            f"{demand.num_document_tokens:,} tokens of documents and {demand.branch:,} for a "
            f"question and its answer make {demand.longest:,}"
        )
        if self.is_too_long:
            raise ContextOverflowError(
                f"{needed}; the model was trained for {self.n_ctx_train:,}: "
                "--split reads them in chunks, fewer documents fit at once"
            )
        ways = [f"--kv-type {row.kv_type}" for row in self._smaller() if row.verdict != "too large"]
        placing = ["--gpu-layers auto"] if self.fits_otherwise_placed else []
        ways = [*placing, *ways[:1], "--split, which reads them in chunks"]
        room = self.largest_ctx - demand.branch
        if room > 0:
            ways.append(f"documents of up to {room:,} tokens")
        ways.append(f"a machine with {gib(self.missing)} more memory")
        raise ContextOverflowError(
            f"{needed}, and take {gib(self.use.kv)} of KV cache beside {gib(self.use.weights)} "
            f"of weights: {gib(self.missing)} more than is free here. "
            f"What works: {', or '.join(ways)}"
        )

    def _smaller(self) -> list[KvTypeRow]:
        names = [row.kv_type for row in self.kv_types]
        return list(self.kv_types[names.index(self.spec.kv_type) + 1 :])

    def as_json(self) -> dict[str, Any]:
        """Tokens, bytes, seconds."""
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
    """The context that the demand needs, with as many questions at once as fit.

    UsageError for a KV type there is not.
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
    """What a prefix of so many tokens takes on disk: the last block with all layers' keys."""
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
    """One sequence for the documents, one a question, and one through which states are saved."""
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
    """The numbers as people read them: what, how much."""
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
                f"{gib(row.kv)}, {gib(row.total)} in all"
                + {"too large": ": too large", "from disk": ": weights read from disk: slow"}.get(
                    row.verdict, ""
                ),
            )
            for row in preflight.kv_types
        ),
        ("scratch", gib(use.context - use.kv)),
        ("free memory", gib(preflight.usable)),
        ("in the prefix store", gib(preflight.stored_bytes)),
        (
            "time to read",
            "not known: no rate was measured yet"
            if preflight.seconds is None
            else roughly(preflight.seconds),
        ),
    ]
