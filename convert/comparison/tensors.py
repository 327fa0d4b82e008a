"""How far each matrix of a GGUF is from the reference's, and whether the types explain that."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from math import sqrt

import numpy as np

from convert.comparison.causes import Pair, Sums, cause
from convert.comparison.rows import Floats, Shape, Source, blocks, sampled
from convert.gguf.file import GGUFTensor
from convert.gguf.model import GGUFModel
from convert.types import Oddity, Progress
from convert.verification import BOUNDS
from convert.writing.pipeline import in_threads
from convert.writing.resources import n_cpus

_LAYER = re.compile(r"blk\.(\d+)\.")
# Even tensors that are not quantized may differ a little, where one converter rounded them.
_LEAST_BOUND = 0.005
# A row that is so far off has other weights. Types of few bits come near that by themselves, and so
# do rows that are nearly zero beside the others.
_WRONG, _COARSE, _NEARLY_ZERO = 0.9, 0.5, 1e-6
_TIED = {"output.weight": "token_embd.weight"}  # one matrix may stand for both


def tensor_oddities(
    ours: GGUFModel,
    theirs: GGUFModel,
    most_weights: int,
    threads: int | None,
    progress: Callable[[Progress], None] | None,
) -> Iterator[Oddity]:
    """Yield what is odd about the tensors, in the order of the reference's file."""
    pairs: dict[str, tuple[GGUFTensor, GGUFTensor]] = {}
    for name in dict.fromkeys((*theirs.tensors, *ours.tensors)):
        own, base = _find(ours.tensors, name), _find(theirs.tensors, name)
        if own is None or base is None:
            what = "is missing" if own is None else "is not in the reference"
            yield Oddity(name, layer_of(name), what)
        elif Shape.of(own) != Shape.of(base):
            what = f"has the shape {list(own.shape)}, the reference's {list(base.shape)}"
            yield Oddity(name, layer_of(name), what)
        else:
            pairs[name] = own, base
    share = most_weights / max(1, sum(own.n_values for own, _ in pairs.values()))
    with (
        closing(Source(ours.files)) as source,
        closing(Source(theirs.files)) as base_source,
    ):
        pair = Pair(ours, theirs, source, base_source)
        measured = _measure(pairs, pair, share, threads or n_cpus(), progress)
        for name, matrices in measured.items():
            own, base = pairs[name]
            bound = bound_of(own.qtype, base.qtype)
            odd = [at for at, sums in matrices.items() if not _is_fine(sums, bound)]
            if odd:
                yield Oddity(name, layer_of(name), cause(pair, name, matrices, sorted(odd), bound))


def bound_of(qtype: str, base_qtype: str) -> float:
    """Return the largest relative error that the two types explain."""
    return max(_LEAST_BOUND, sqrt(BOUNDS[qtype] ** 2 + BOUNDS[base_qtype] ** 2))


def layer_of(name: str) -> int | None:
    """Return the number of a tensor's layer; None for one that belongs to none."""
    match = _LAYER.match(name)
    return int(match[1]) if match else None


def _find(tensors: Mapping[str, GGUFTensor], name: str) -> GGUFTensor | None:
    return tensors.get(name) or tensors.get(_TIED.get(name, name))


def _is_fine(sums: Sums, bound: float) -> bool:
    return sums.is_finite and sums.relative <= bound and not sums.has_wrong_row


def _measure(
    pairs: Mapping[str, tuple[GGUFTensor, GGUFTensor]],
    pair: Pair,
    share: float,
    threads: int,
    progress: Callable[[Progress], None] | None,
) -> dict[str, dict[int, Sums]]:
    """Return the sums of each matrix of each tensor."""

    def work(item: tuple[str, int]) -> tuple[str, int, Sums]:
        name, matrix = item
        own, base = pairs[name]
        shape = Shape.of(own)
        rows = sampled(shape, share)
        bound = bound_of(own.qtype, base.qtype)
        sums = Sums(num_rows=len(rows))
        for some in blocks(shape, rows):
            values = pair.source.rows(own, matrix, some)
            _add(sums, values, pair.base_source.rows(base, matrix, some), some, bound)
        return name, matrix, sums

    items = [(name, at) for name, (own, _) in pairs.items() for at in range(_count(own))]
    found: dict[str, dict[int, Sums]] = {name: {} for name in pairs}
    with closing(in_threads(work, items, threads)) as finished:
        for done, (name, matrix, sums) in enumerate(finished, 1):
            found[name][matrix] = sums
            if progress is not None:
                progress(Progress(done, len(items), name))
    return found


def _add(sums: Sums, own: Floats, base: Floats, rows: Sequence[int], bound: float) -> None:
    with np.errstate(all="ignore"):
        errors = np.square(own - base).sum(axis=1, dtype=np.float64)
        bases = np.square(base).sum(axis=1, dtype=np.float64)
        sums.own += float(np.square(own).sum(dtype=np.float64))
    sums.is_finite = sums.is_finite and bool(np.isfinite(errors).all())
    sums.error += float(errors.sum())
    sums.base += float(bases.sum())
    # A single row varies more than a matrix.
    is_odd = ~(errors <= (2 * bound) ** 2 * bases)
    if bound < _COARSE:
        is_wrong = (errors > _WRONG**2 * bases) & (bases > _NEARLY_ZERO * bases.mean())
        sums.has_wrong_row = sums.has_wrong_row or bool(is_wrong.any())
    sums.odd_rows += [rows[at] for at in np.flatnonzero(is_odd).tolist()]


def _count(tensor: GGUFTensor) -> int:
    return Shape.of(tensor).n_matrices
