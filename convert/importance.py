"""How much the columns of one tensor matter: what an imatrix file has on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert.errors import ConvertError

# The mean square of n draws is off by about sqrt(2/n): a quarter at 32 tokens.
COLD_TOKENS = 32

# Squares of activations are never larger; much larger ones overflow in the kernels, which abort.
MAX_VALUE = 1e12


@dataclass(frozen=True)
class Importance:
    """What an imatrix file has on one tensor: sums in the file, each to be divided by a count.

    `counts`: one a matrix or one for all of them. `tells_coverage`: they are tokens seen.
    """

    path: Path
    name: str
    offset: int  # of `n_values` little-endian float32 sums, from the start of the file
    n_values: int
    counts: tuple[int, ...]
    tells_coverage: bool

    def row(self, part: int, n_cols: int) -> NDArray[np.float32]:
        """The importance of a matrix's columns [n_cols]; ones for an expert that saw nothing.

        Read from the file each time, since a Maverick's would fill 220 MB. Raises ConvertError.
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
        # What the kernels would abort the process on.
        if not (row.min() >= 0 and row.max() <= MAX_VALUE):
            raise ConvertError(
                f"{self.path}: {self.name} holds NaN, Inf or numbers that no mean square can be; "
                "make the imatrix again"
            )
        return row

    def cold_experts(self) -> tuple[int, ...]:
        """The experts that saw fewer than `COLD_TOKENS` tokens, as far as the file tells."""
        if not self.tells_coverage or len(self.counts) == 1:
            return ()
        return tuple(part for part, count in enumerate(self.counts) if count < COLD_TOKENS)
