"""The facts that are measured, and the estimates made from them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

DEFAULT_N_UBATCH = 512
_PIECES = 64  # a long prompt's estimate is the sum over so many pieces, each with its own cost


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions that must be equal for a measured speed to be valid again.

    `model` is `LLM.fingerprint`. The store adds the machine and the versions of l4 and llama.cpp.
    """

    model: str
    kv_type: str = "f16"
    n_threads: int = 1
    n_gpu_layers: int = 0  # -1 is all; 0 in a build without a GPU
    n_cpu_moe: int = 0  # of these layers, those whose experts stay in RAM
    repack: bool = True  # whether weights may be copied into the CPU kernels' own order
    cards: str = ""  # names of the graphics cards, where any layer lies on them

    def placed(
        self,
        cards: Sequence[str],
        gpu_layers: int,
        cpu_moe: int,
        *,
        n_layers: int,
        repack: bool = True,
    ) -> Conditions:
        """The same conditions with the weights placed differently, always in the same form.

        cards: names of the graphics cards; without any, no layer lies on one.
        gpu_layers: layers on the cards; -1, or more than `n_layers`, means all.
        cpu_moe: of these, layers whose experts stay in RAM.
        n_layers: layers of the model.
        """
        if not cards or not gpu_layers:
            return replace(self, n_gpu_layers=0, n_cpu_moe=0, repack=repack, cards="")
        everything = gpu_layers < 0 or gpu_layers > n_layers
        return replace(
            self,
            n_gpu_layers=-1 if everything else gpu_layers,
            n_cpu_moe=min(cpu_moe, n_layers),
            repack=repack,
            cards=", ".join(cards),
        )


@dataclass(frozen=True, slots=True)
class Speeds:
    """Tokens per second: of prompts while prompts are prefilled, of answers while all decode."""

    prefill_tps: float
    decode_tps: float

    def seconds(self, num_prefill_tokens: int, num_decode_tokens: int) -> float:
        """Seconds that so many tokens take."""
        return num_prefill_tokens / self.prefill_tps + num_decode_tokens / self.decode_tps


@dataclass(frozen=True, slots=True)
class RunSpeeds:
    """The rates of the last long enough run with `n_seq_max` slots."""

    KIND: ClassVar = "run"
    KEY: ClassVar = ("n_seq_max",)

    n_seq_max: int
    prefill_tps: float
    decode_tps: float


@dataclass(frozen=True, slots=True)
class PrefillRate:
    """Tokens per second of `n_tokens` computed after `depth` others, `n_ubatch` at a time.

    `spread` is half the difference between the slowest and the fastest repeat, as a share of `tps`.
    """

    KIND: ClassVar = "prefill"
    KEY: ClassVar = ("depth", "n_ubatch")

    depth: int
    n_ubatch: int
    n_tokens: int
    tps: float
    spread: float = 0.0


@dataclass(frozen=True, slots=True)
class DecodeRate:
    """Tokens per second of `batch` sequences together, which decode after `depth` tokens each."""

    KIND: ClassVar = "decode"
    KEY: ClassVar = ("batch", "depth")

    batch: int
    depth: int
    tps: float
    spread: float = 0.0


@dataclass(frozen=True, slots=True)
class LoadTime:
    """Seconds from the file to a model ready to compute."""

    KIND: ClassVar = "load"
    KEY: ClassVar = ()

    seconds: float


@dataclass(frozen=True, slots=True)
class AttentionReach:
    """How far back a model's layers attend.

    share: the share of layers that attend only within the current `chunk` of tokens (Llama 4), or
        only `window` tokens back. The others attend to everything.
    chunk, window: tokens; 0 without such layers.

    The cost of a token grows with the number of tokens that it attends to, so depths are compared
    by that number.
    """

    KIND: ClassVar = "attention"
    KEY: ClassVar = ()

    share: float = 0.0
    chunk: int = 0
    window: int = 0

    def seen(self, depth: float) -> float:
        """Tokens that a token at `depth` attends to, averaged over the layers."""
        return (1 - self.share) * depth + self.share * self._seen_nearby(depth)

    def mean_seen(self, start: float, stop: float) -> float:
        """The mean of `seen` from `start` to `stop`."""
        if stop <= start:
            return self.seen(start)
        nearby = (self._sum_nearby(stop) - self._sum_nearby(start)) / (stop - start)
        return (1 - self.share) * (start + stop) / 2 + self.share * nearby

    def _seen_nearby(self, depth: float) -> float:
        if self.chunk:
            return depth % self.chunk
        return min(depth, self.window) if self.window else depth

    def _sum_nearby(self, depth: float) -> float:
        """The integral of `_seen_nearby` from 0 to `depth`."""
        if self.chunk:
            chunks, rest = divmod(depth, self.chunk)
            return float(chunks * self.chunk**2 / 2 + rest**2 / 2)
        reached = min(depth, self.window) if self.window else depth
        return float(reached**2 / 2 + reached * (depth - reached))


@dataclass(frozen=True, slots=True)
class EffectiveLength:
    """The longest context, in tokens, that a model still used well; 0 if none of those tested.

    `n_longest` is the longest that was tested. If both are equal, the model may use even more.
    """

    KIND: ClassVar = "effective-length"
    KEY: ClassVar = ()

    n_tokens: int
    n_longest: int
    score: float  # 0..1, at `n_tokens`, or at the shortest length if `n_tokens` is 0
    base_score: float  # 0..1, at short lengths


Fact = RunSpeeds | PrefillRate | DecodeRate | LoadTime | AttentionReach


@dataclass(frozen=True, slots=True)
class Measured:
    """All facts measured under the same conditions; estimates are None without facts for them."""

    runs: tuple[RunSpeeds, ...] = ()
    prefill: tuple[PrefillRate, ...] = ()
    decode: tuple[DecodeRate, ...] = ()
    load: LoadTime | None = None
    reach: AttentionReach = AttentionReach()

    def prefill_seconds(
        self, n_tokens: int, depth: int = 0, *, n_ubatch: int = DEFAULT_N_UBATCH
    ) -> float | None:
        """Seconds to compute `n_tokens` of a prompt after `depth` others.

        Assumes that a token's cost grows linearly with the number of tokens that it attends to,
        between the measured depths and beyond. Without a bench, the rate of a run counts for every
        depth.
        """
        if not self.prefill:
            run = self._nearest_run(1)
            return n_tokens / run.prefill_tps if run else None
        nearest = min((rate.n_ubatch for rate in self.prefill), key=lambda n: abs(n - n_ubatch))
        seconds_a_token = {
            self.reach.mean_seen(rate.depth, rate.depth + rate.n_tokens): 1 / rate.tps
            for rate in self.prefill
            if rate.n_ubatch == nearest
        }
        piece = n_tokens / _PIECES
        starts = (depth + index * piece for index in range(_PIECES))
        return sum(
            piece * _at(seconds_a_token, self.reach.mean_seen(start, start + piece))
            for start in starts
        )

    def decode_tps(self, batch: int = 1, depth: int = 0) -> float | None:
        """Tokens per second of `batch` sequences together, each with `depth` tokens before it.

        Assumes that the time of a step is linear between measured batches and depths. More
        sequences than were measured are assumed to gain nothing.
        """
        if not self.decode:
            run = self._nearest_run(batch)
            return run.decode_tps if run else None
        steps: dict[int, dict[float, float]] = {}
        for rate in self.decode:
            by_seen = steps.setdefault(rate.batch, {})
            by_seen[self.reach.seen(rate.depth)] = rate.batch / rate.tps
        seen = self.reach.seen(depth)
        seconds_a_step = {float(n): _at(by_seen, seen) for n, by_seen in steps.items()}
        batch = min(batch, max(steps))
        return batch / _at(seconds_a_step, batch)

    def speeds(self, n_seq_max: int) -> Speeds | None:
        """Both rates for a run with that many slots: from the run with the nearest number of slots.

        Without any run, from the bench; None without either.
        """
        if run := self._nearest_run(n_seq_max):
            return Speeds(run.prefill_tps, run.decode_tps)
        seconds, decode_tps = self.prefill_seconds(DEFAULT_N_UBATCH), self.decode_tps(n_seq_max)
        if seconds is None or decode_tps is None:
            return None
        return Speeds(DEFAULT_N_UBATCH / seconds, decode_tps)

    def _nearest_run(self, n_seq_max: int) -> RunSpeeds | None:
        return min(self.runs, key=lambda run: abs(run.n_seq_max - n_seq_max), default=None)


def _at(points: Mapping[float, float], x: float) -> float:
    """The value at `x` of the lines through `points`, which map x to y; at least one is needed.

    Before the first point the value is constant. After the last one, the last line continues but
    never falls: more context does not make a token cheaper.
    """
    known = sorted(points.items())
    if x <= known[0][0]:
        return known[0][1]
    for (x0, y0), (x1, y1) in pairwise(known):
        if x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    (x1, y1) = known[-1]
    (x0, y0) = known[-2] if len(known) > 1 else (x1 - 1, y1)
    return y1 + max(0.0, (y1 - y0) / (x1 - x0)) * (x - x1)
