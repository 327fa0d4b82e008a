"""Sums of squares of what each column of the weights is multiplied with, and how many they are.

The definition, and the order of the additions, are those of llama-imatrix (tools/imatrix): float32,
one token after another. So the sums are the same bits where llama.cpp computes the same ubatches,
and a run that goes on from a file has the sums of one that was never stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from l4cli.engine.llamacpp.inputs import Product
from l4cli.errors import InputError, ModelError

Floats = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]


@dataclass(slots=True)
class Entry:
    """The sums of one tensor.

    sums: [counts, columns]. counts: tokens of each expert; one number for weights that all tokens
        are multiplied with, whose matrices, if they are several, lie one behind the other.
    """

    sums: Floats
    counts: Counts

    @property
    def has_experts(self) -> bool:
        return len(self.counts) > 1


@dataclass(slots=True)
class Sums:
    """The sums of all tensors, by their names in the GGUF."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def take(self, product: Product) -> None:
        """Add the squares of a product's inputs.

        Raises ModelError if a number is NaN or infinite, InputError if sums that are there have
        another shape.
        """
        if product.experts is None:
            touched = self._take_plain(product)
        else:
            touched = self._take_routed(product, product.experts)
        if not np.isfinite(touched).all():
            raise ModelError(
                f"the model computed what is no number (NaN or infinite) in front of "
                f"{product.weights}: its weights may be damaged (`l4 info` looks at the file)"
            )

    def add(self, other: Sums) -> None:
        """Add the sums of another text. InputError, which tells the tensor, if they do not fit."""
        for name, entry in other.entries.items():
            own = self._entry(name, *entry.sums.shape)
            own.sums += entry.sums
            own.counts += entry.counts

    def experts(self) -> Mapping[str, Counts]:
        """Return the tokens of each expert, by the name of its layer (`blk.3`), in their order."""
        found: dict[tuple[str, int], Counts] = {}
        for name, entry in self.entries.items():
            if entry.has_experts:
                kind, number = [*name.split("."), "", ""][:2]
                layer = kind, int(number) if number.isdecimal() else 0
                known = found.get(layer)
                found[layer] = entry.counts if known is None else np.minimum(known, entry.counts)
        return {f"{kind}.{number}": found[kind, number] for kind, number in sorted(found)}

    @property
    def num_tokens(self) -> int:
        """The most tokens that any matrix was multiplied with."""
        return max((int(entry.counts.max()) for entry in self.entries.values()), default=0)

    def sorted(self) -> Iterator[tuple[str, Entry]]:
        """Yield the entries in the order of their names' bytes, as llama-imatrix stores them."""
        return iter(sorted(self.entries.items(), key=lambda item: item[0].encode()))

    def _take_plain(self, product: Product) -> Floats:
        outer, middle = product.stack
        n_outer, n_middle, n_rows, n_cols = product.inputs.shape
        entry = self._entry(product.weights, 1, outer * middle * n_cols)
        matrices = entry.sums.reshape(outer, middle, n_cols)
        for i in range(n_outer):
            for j in range(n_middle):
                _accumulate(matrices[i % outer, j % middle], product.inputs[i, j])
        entry.counts += n_outer * n_middle * n_rows // (outer * middle)
        return entry.sums

    def _take_routed(self, product: Product, experts: npt.NDArray[np.int32]) -> Floats:
        n_tokens = len(experts)
        _, width, n_cols = product.inputs.shape
        num_experts = product.stack[1]
        entry = self._entry(product.weights, num_experts, n_cols)
        # All first choices come before all second ones.
        choices = experts.T.ravel()
        order = np.argsort(choices, kind="stable")
        counts = np.bincount(choices, minlength=num_experts)
        start = 0
        for expert in np.flatnonzero(counts):
            places = order[start : start + counts[expert]]
            start += counts[expert]
            rows = product.inputs[places % n_tokens, places // n_tokens % width]
            _accumulate(entry.sums[expert], rows)
        entry.counts += counts
        touched: Floats = entry.sums[counts > 0]
        return touched

    def _entry(self, name: str, *shape: int) -> Entry:
        entry = self.entries.get(name)
        if entry is None:
            sums = np.zeros(shape, np.float32)
            entry = self.entries[name] = Entry(sums, np.zeros(len(sums), np.int64))
        if entry.sums.shape != shape:
            have, need = (" x ".join(map(str, each)) for each in (entry.sums.shape, shape))
            raise InputError(f"{name} has sums of {have} columns, but {need} are needed")
        return entry


def _accumulate(sums: Floats, rows: Floats) -> None:
    """Add the squares of rows [n, columns] to sums [columns], one row after another."""
    if not len(rows):
        return
    squares = rows * rows
    squares[0] += sums
    np.add.reduce(squares, axis=0, out=sums)
