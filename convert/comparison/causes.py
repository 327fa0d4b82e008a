"""What a matrix that is too far from the reference's may be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt

import numpy as np

from convert.comparison.rows import Floats, Shape, Source
from convert.gguf.array import GGUFArray
from convert.gguf.model import GGUFModel

_PROBED = 16  # rows of a matrix that are compared with other matrices
_MOST_NAMED = 6  # experts in a line
_ROTATED = re.compile(r"attn_([qk])\.(weight|bias)$")


@dataclass(frozen=True)
class Pair:
    """The two models that are compared, with their open files."""

    ours: GGUFModel
    theirs: GGUFModel
    source: Source
    base_source: Source


@dataclass(slots=True)
class Sums:
    """What is known of one matrix: sums over the rows looked at.

    odd_rows: those of them that are too far off, which some rows of a sound matrix may be.
    has_wrong_row: whether one of them has nothing to do with the reference's.
    """

    error: float = 0.0
    own: float = 0.0
    base: float = 0.0
    is_finite: bool = True
    num_rows: int = 0
    odd_rows: list[int] = field(default_factory=list)
    has_wrong_row: bool = False

    @property
    def relative(self) -> float:
        """The root of the mean square error, as a share of the reference's."""
        return sqrt(self.error / self.base) if self.base else float(self.error > 0)


def cause(
    pair: Pair, name: str, matrices: Mapping[int, Sums], odd: Sequence[int], bound: float
) -> str:
    """Return what is odd about a tensor.

    odd: the matrices that are too far off. bound: the relative error that the types explain.
    """
    where = "" if len(matrices) == 1 else f" in {_experts(odd)}"
    parts = [matrices[at] for at in odd]
    if bad := [at for at in odd if not matrices[at].is_finite]:
        return f"has NaN or infinite weights{where and f' in {_experts(bad)}'}"
    if all(sums.own == 0 for sums in parts):
        return f"is all zero{where}"
    if len(matrices) > 1 and (moved := _moved(pair, name, odd, len(matrices), bound)):
        return moved
    worst = max(sums.relative for sums in parts)
    off = f"{worst:.0%} off, where its type explains {bound:.1%}"
    num_odd, num_rows = sum(len(s.odd_rows) for s in parts), sum(s.num_rows for s in parts)
    if 0 < num_odd < 0.9 * num_rows:
        first = next(sums.odd_rows[0] for sums in parts if sums.odd_rows)
        return f"is wrong in {num_odd:,} of {num_rows:,} rows, from row {first} on{where} ({off})"
    probe = _Probe(pair, name, odd[0])
    if other := probe.layer(bound):
        return f"has the weights of {other} of the reference{where}"
    if (factor := probe.factor()) is not None and probe.is_close(probe.base * factor, bound):
        return f"is {factor:.4g} times the reference's{where}"
    if probe.is_rotated(bound):
        return f"has its rows in the order of the other kind of RoPE{where} ({off})"
    return f"is {off}{where}"


def _experts(odd: Sequence[int]) -> str:
    named = ", ".join(map(str, odd[:_MOST_NAMED]))
    more = f" and {len(odd) - _MOST_NAMED} more" if len(odd) > _MOST_NAMED else ""
    return f"{'expert' if len(odd) == 1 else 'experts'} {named}{more}"


def _moved(pair: Pair, name: str, odd: Sequence[int], count: int, bound: float) -> str:
    """Say which expert has the weights of which other one; "" if they have not."""
    tensor, base = pair.ours.tensors[name], pair.theirs.tensors[name]
    rows = _some_rows(Shape.of(tensor))
    originals = [pair.base_source.rows(base, at, rows) for at in range(count)]
    from_where: dict[int, int] = {}
    for at in odd:
        own = pair.source.rows(tensor, at, rows)
        errors = [_relative(own, other) for other in originals]
        best = int(np.argmin(errors))
        if errors[best] <= 2 * bound and best != at:
            from_where[at] = best
    if len(from_where) < len(odd):
        return ""
    swapped = [(a, b) for a, b in from_where.items() if a < b and from_where.get(b) == a]
    if 2 * len(swapped) == len(odd):
        shown = ", ".join(f"{a} and {b}" for a, b in swapped[:_MOST_NAMED])
        more = len(swapped) - _MOST_NAMED
        return f"has exchanged experts: {shown}{f' and {more} more pairs' if more > 0 else ''}"
    shown = ", ".join(f"{a} is {b}" for a, b in list(from_where.items())[:_MOST_NAMED])
    return (
        f"has its experts in another order: {shown}{' …' if len(from_where) > _MOST_NAMED else ''}"
    )


class _Probe:
    """A few rows of a matrix, and of the reference's."""

    def __init__(self, pair: Pair, name: str, matrix: int) -> None:
        self._pair, self._name, self._matrix = pair, name, matrix
        self._tensor = pair.ours.tensors.get(name)
        self._base = pair.theirs.tensors.get(name)
        self.own = self.base = np.zeros((0, 0), np.float32)
        if self._tensor and self._base:
            self._rows = _some_rows(Shape.of(self._tensor))
            self.own = pair.source.rows(self._tensor, matrix, self._rows)
            self.base = pair.base_source.rows(self._base, matrix, self._rows)

    def is_close(self, base: Floats, bound: float) -> bool:
        return self.own.size > 0 and _relative(self.own, base) <= 1.5 * bound

    def factor(self) -> float | None:
        """The factor by which the reference's rows are nearest."""
        own, base = self.own.astype(np.float64), self.base.astype(np.float64)
        total = float((base * base).sum())
        return float((own * base).sum()) / total if total else None

    def layer(self, bound: float) -> str:
        """The name of the reference's tensor, in another layer, that has these rows; or ""."""
        if self._tensor is None or self.own.shape[1:] == (1,) or len(self._tensor.shape) < 2:
            return ""
        for other in _alike(self._name, self._pair.theirs):
            tensor = self._pair.theirs.tensors[other]
            if tensor.shape == self._tensor.shape:
                rows = self._pair.base_source.rows(tensor, self._matrix, self._rows)
                if self.is_close(rows, bound):
                    return other
        return ""

    def is_rotated(self, bound: float) -> bool:
        """Whether queries or keys have the rows of pairs apart that are beside each other there."""
        match = _ROTATED.search(self._name)
        if not match or self._tensor is None or self._base is None:
            return False
        size = _head_size(self._pair.theirs, match[1], Shape.of(self._tensor).n_rows)
        if size < 4 or size % 2:
            return False
        own = self._pair.source.rows(self._tensor, self._matrix, range(size))
        base = self._pair.base_source.rows(self._base, self._matrix, range(size))
        order = np.arange(size).reshape(2, size // 2).T.ravel()
        return min(_relative(own, base[order]), _relative(own[order], base)) <= 1.5 * bound


def _alike(name: str, model: GGUFModel) -> Iterator[str]:
    """Yield the names of the same tensor of other layers."""
    pattern = re.compile(re.sub(r"^blk\\\.\d+", r"blk\\.\\d+", re.escape(name)))
    for other in model.tensors:
        if other != name and pattern.fullmatch(other):
            yield other


def _head_size(model: GGUFModel, which: str, n_rows: int) -> int:
    prefix = f"{model.fields.get('general.architecture')}.attention.head_count"
    count = model.fields.get(prefix if which == "q" else f"{prefix}_kv")
    if isinstance(count, GGUFArray):
        count = max(count, default=0)
    return n_rows // count if isinstance(count, int) and count > 0 else 0


def _some_rows(shape: Shape) -> list[int]:
    rows = np.linspace(0, shape.n_rows - 1, min(_PROBED, shape.n_rows)).astype(int)
    found: list[int] = np.unique(rows).tolist()
    return found


def _relative(own: Floats, base: Floats) -> float:
    total = float(np.square(base).sum(dtype=np.float64))
    error = float(np.square(own - base).sum(dtype=np.float64))
    return (error / total) ** 0.5 if total else float(error > 0)
