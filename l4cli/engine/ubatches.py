"""Which tokens of a batch llama.cpp computes together, and in which order. Pure.

llama.cpp divides the tokens of one `llama_decode` into ubatches. A tensor of its graph then has a
column for each token of a ubatch. The rules are those of `llama_batch_allocr` (src/llama-batch.cpp)
for caches of keys and values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from l4cli.errors import EngineError

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Placed:
    """Tokens of a batch, one number for each in all four arrays.

    tokens: their ids. seq_ids, positions: where they stand. kept: 1 if its logits are kept.
    """

    tokens: Ints
    seq_ids: Ints
    positions: Ints
    kept: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.tokens)

    def at(self, places: npt.NDArray[np.intp]) -> Placed:
        """Return the tokens at these places, in their order."""
        parts = (self.tokens, self.seq_ids, self.positions, self.kept)
        return Placed(*(part[places] for part in parts))  # type: ignore[arg-type]

    def of_columns(self, count: int) -> Placed:
        """Return the tokens to which the columns of a tensor belong, in their order.

        count: columns of the tensor. Behind the attention of the last layer, llama.cpp goes on with
            only those tokens whose logits are kept.

        Raises EngineError if there is no such tensor in a graph of these tokens.
        """
        if count == len(self):
            return self
        kept = np.flatnonzero(self.kept)
        if count == len(kept):
            return self.at(kept)
        raise EngineError(
            f"a tensor of llama.cpp has {count} columns, but {len(self)} tokens are computed and "
            f"the logits of {len(kept)} kept: which tokens they are of is not known"
        )


def ubatches(batch: Placed, n_ubatch: int, *, unified: bool) -> Iterator[Placed]:
    """Yield the ubatches of a batch, in the order in which llama.cpp computes them.

    n_ubatch: most tokens in one.
    unified: whether all sequences share the cells (a pool). Otherwise a ubatch has equally many
        tokens of each of its sequences, one sequence behind the other.
    """
    if unified:
        for start in range(0, len(batch), n_ubatch):
            yield batch.at(np.arange(start, min(start + n_ubatch, len(batch))))
        return
    left = {int(seq): np.flatnonzero(batch.seq_ids == seq) for seq in _in_order(batch.seq_ids)}
    while left:
        together: list[int] = []
        for seq in left:
            if len(together) < n_ubatch and (not together or seq == together[-1] + 1):
                together.append(seq)
        shortest = min(len(left[seq]) for seq in together)
        count = min(shortest, max(1, n_ubatch // len(together)))
        yield batch.at(np.concatenate([left[seq][:count] for seq in together]))
        for seq in together:
            left[seq] = left[seq][count:]
            if not len(left[seq]):
                del left[seq]


def _in_order(seq_ids: Ints) -> list[int]:
    """The sequences in the order of their first tokens."""
    return list(dict.fromkeys(seq_ids.tolist()))
