"""The importance of one tensor's columns, as an imatrix file states it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert.errors import ConvertError

# An expert that saw fewer tokens is cold. The mean square of n draws is off by about sqrt(2/n),
# which is a quarter at 32 tokens.
COLD_TOKENS = 32

# Mean squares of activations are never larger. Much larger ones would overflow in the kernels,
# which then abort the process.
MAX_VALUE = 1e12


@dataclass(frozen=True)
class Importance:
    """One tensor's entry in an imatrix file: sums in the file, each to be divided by a count.

    counts: one count per matrix, or one for all matrices.
    tells_coverage: whether the counts are numbers of tokens seen (not in legacy files).
    """

    path: Path
    name: str
    offset: int  # of `n_values` little-endian float32 sums, from the start of the file
    n_values: int
    counts: tuple[int, ...]
    tells_coverage: bool

    def row(self, part: int, n_cols: int) -> NDArray[np.float32]:
        """The importance of the columns [n_cols] of matrix `part`; ones if its expert saw no token.

        It is read from the file each time, because all of Maverick's would take 220 MB of memory.
        Raises ConvertError.
        """
        count = self.counts[part if len(self.counts) > 1 else 0]
        if count == 0:
            return np.ones(n_cols, np.float32)
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset + 4 * part * n_cols)
                sums = np.fromfile(file, "<f4", n_cols)
        except OSError as error:
            raise ConvertError(f"{self.path}: {error.strerror}") from None
        if len(sums) < n_cols:
            raise ConvertError(f"{self.path}: ends within {self.name}; copy it again")
        row: NDArray[np.float32] = (sums / np.float32(count)).astype(np.float32, copy=False)
        # The kernels would abort the process on these.
        if not (row.min() >= 0 and row.max() <= MAX_VALUE):
            raise ConvertError(
                f"{self.path}: {self.name} holds NaN, Inf, negative or far too large numbers; "
                "make the imatrix again"
            )
        return row

    def cold_experts(self) -> tuple[int, ...]:
        """The experts that saw fewer than `COLD_TOKENS` tokens; empty if the file does not tell."""
        if not self.tells_coverage or len(self.counts) == 1:
            return ()
        return tuple(part for part, count in enumerate(self.counts) if count < COLD_TOKENS)
