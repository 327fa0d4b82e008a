"""Numbers of each token from rows of logits, exactly as llama-perplexity defines them.

Its definitions are in tools/perplexity/perplexity.cpp. Exponentials are float32, sums double. For
the KL divergence the reference's log-probabilities are rounded to 16 bits between a row's least and
greatest (at most 16 below the greatest), and probabilities below exp(-16) are left out.

numpy computes a few rows at a time, which stay in a core's cache. Its functions release the GIL, so
blocks of rows run in as many threads as there are cores.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]
Levels = npt.NDArray[np.uint16]

_BLOCK = 1 << 16  # logits of a block: 256 KiB
_SPAN = np.float32(16)  # how far below a row's greatest logit the 16 bits reach
_LEVELS = np.float32(65535)
_LEAST = np.float32(-16)  # log-probabilities up to here are left out of the KL divergence


class Reference(NamedTuple):
    """What is kept of a reference's rows: log-probabilities as `scale * levels + least`.

    scale, least: of each row. levels: uint16 [n, n_vocab], half of what the logits take.
    nll: negative log-likelihood of the text's token. top: the likeliest token.
    """

    scale: Floats
    least: Floats
    levels: Levels
    nll: Floats
    top: Ints

    def part(self, at: slice) -> Reference:
        """Return these rows alone, as views."""
        return Reference(
            self.scale[at], self.least[at], self.levels[at], self.nll[at], self.top[at]
        )


class Compared(NamedTuple):
    """Numbers of each token of one piece, for a model against its reference.

    nll, base_nll: negative log-likelihood of the text's token by the model and by the reference,
        whose log-probabilities are rounded to 16 bits.
    kld: KL divergence of the model's distribution from the reference's.
    top, base_top: the likeliest tokens.
    """

    nll: Floats
    base_nll: Floats
    kld: Doubles
    top: Ints
    base_top: Ints


class Numerics:
    """Computes over blocks of rows in several threads. Close it."""

    def __init__(self, num_threads: int) -> None:
        self._pool = ThreadPoolExecutor(num_threads) if num_threads > 1 else None

    def nll(self, rows: Floats, targets: list[int]) -> Doubles:
        """Return the negative log-likelihood of a token by each row.

        rows: float32 [n, n_vocab]. targets: the token of each row. The result is NaN where a row
        has NaN.
        """
        wanted = np.asarray(targets, np.int64)
        out = np.empty(len(rows), np.float64)

        def compute(at: slice) -> None:
            out[at] = _nll(rows[at], wanted[at])

        self._over(rows, compute)
        return out

    def reference(self, rows: Floats, targets: list[int]) -> Reference:
        """Return what is compared with: the rows of the reference, rounded to 16 bits.

        `nll` is NaN where a row has NaN.
        """
        wanted, n = np.asarray(targets, np.int64), len(rows)
        found = Reference(
            np.empty(n, np.float32), np.empty(n, np.float32), np.empty(rows.shape, np.uint16),
            np.empty(n, np.float32), np.empty(n, np.int32),
        )  # fmt: skip

        def compute(at: slice) -> None:
            _round(rows[at], wanted[at], found.part(at))

        self._over(rows, compute)
        return found

    def compare(self, rows: Floats, base: Reference, targets: list[int]) -> Compared:
        """Return the numbers of each row against the reference's row of the same token."""
        wanted, n = np.asarray(targets, np.int64), len(rows)
        found = Compared(
            np.empty(n, np.float32), base.nll, np.empty(n, np.float64), np.empty(n, np.int32),
            base.top,
        )  # fmt: skip

        def compute(at: slice) -> None:
            numbers = _compare(rows[at], base.part(at), wanted[at])
            found.nll[at], found.kld[at], found.top[at] = numbers

        self._over(rows, compute)
        return found

    def close(self) -> None:
        """End the threads; idempotent."""
        if self._pool:
            self._pool.shutdown()

    def _over(self, rows: Floats, compute: Callable[[slice], None]) -> None:
        size = max(1, _BLOCK // rows.shape[1])
        blocks = [slice(at, at + size) for at in range(0, len(rows), size)]
        with np.errstate(all="ignore"):
            if self._pool is None or len(blocks) == 1:
                for block in blocks:
                    compute(block)
                return

        def quietly(block: slice) -> None:
            with np.errstate(all="ignore"):  # is a thread's own
                compute(block)

        for _ in self._pool.map(quietly, blocks):
            pass


def _nll(rows: Floats, targets: Any) -> Doubles:
    greatest = rows.max(axis=1)
    shifted = rows - greatest[:, None]
    own: Doubles = shifted[np.arange(len(rows)), targets].astype(np.float64)
    np.exp(shifted, out=shifted)
    found: Doubles = np.log(shifted.sum(axis=1, dtype=np.float64)) - own
    return found


def _compare(rows: Floats, base: Reference, targets: Any) -> tuple[Floats, Doubles, Any]:
    each = np.arange(len(rows))
    # The model's own log of the sum of exponentials, in the order and precision of the original.
    top = rows.argmax(axis=1)
    greatest = rows[each, top]
    work = rows - greatest[:, None]
    np.exp(work, out=work)
    log_sum = np.log(work.sum(axis=1, dtype=np.float64)).astype(np.float32)
    nll = greatest + log_sum - rows[each, targets]
    log_p = base.levels.astype(np.float32)
    log_p *= base.scale[:, None]
    log_p += base.least[:, None]
    np.subtract(log_p, rows, out=work)
    work += (greatest + log_sum)[:, None]
    too_small = log_p <= _LEAST
    np.exp(log_p, out=log_p)
    work *= log_p
    work[too_small] = 0
    return nll, work.sum(axis=1, dtype=np.float64), top


def _round(rows: Floats, targets: Any, out: Reference) -> None:
    """Fill `out` with the log-probabilities of each row, in 65,536 levels."""
    greatest = rows.max(axis=1)
    lowest = np.maximum(rows.min(axis=1), greatest - _SPAN)
    work = rows - greatest[:, None]
    np.exp(work, out=work)
    log_sum = np.log(work.sum(axis=1, dtype=np.float64)).astype(np.float32)
    out.least[:] = lowest - greatest - log_sum
    out.scale[:] = (greatest - lowest) / _LEVELS
    inverse = np.where(out.scale > 0, np.float32(1) / out.scale, np.float32(0)).astype(np.float32)
    np.subtract(rows, lowest[:, None], out=work)
    np.maximum(work, np.float32(0), out=work)
    work *= inverse[:, None]
    np.rint(work, out=work)
    out.levels[:] = work
    out.nll[:] = -(out.scale * work[np.arange(len(rows)), targets] + out.least)
    out.top[:] = work.argmax(axis=1)
