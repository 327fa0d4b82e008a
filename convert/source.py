"""A checkpoint's tensors as an architecture asks for them, each of known name and shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from convert.checkpoint import StoredTensor
from convert.errors import ConvertError
from convert.fp8 import SCALE_SUFFIXES, place_scale
from convert.tensors import View

_PLAIN_DTYPES = ("F32", "F16", "BF16")
_FP8_DTYPE = "F8_E4M3"


class Source:
    """Hands out tensors by their canonical names and remembers which, so that none is overlooked.

    Every method raises ConvertError if the tensor is missing, of another shape than config.json
    calls for, or of a dtype that is not read. `fp8_block` is the block of block-scaled FP8 weights.
    """

    def __init__(
        self, path: Path, tensors: Mapping[str, StoredTensor], fp8_block: tuple[int, int] | None
    ) -> None:
        self._path = path
        self._tensors = tensors
        self._fp8_block = fp8_block
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def vector(self, name: str, n: int) -> View:
        """A stored [n] as one row."""
        return View(self._plain(name, (n,)), 1, n, 0, n, 1)

    def matrix(self, name: str, n_rows: int, n_cols: int, *, head_rows: int = 0) -> View:
        """A stored [n_rows, n_cols], FP8 with its scale; `head_rows` as in View."""
        stored = self._tensors.get(name)
        if stored is None or stored.dtype != _FP8_DTYPE:
            plain = self._plain(name, (n_rows, n_cols))
            return View(plain, n_rows, n_cols, 0, n_cols, 1, head_rows=head_rows)
        weight = self._take(name, (n_rows, n_cols))
        for suffix in SCALE_SUFFIXES:
            if name + suffix in self._tensors:
                self._taken.add(name + suffix)
                scale = place_scale(weight, self._tensors[name + suffix], self._fp8_block)
                return View(weight, n_rows, n_cols, 0, n_cols, 1, scale, head_rows)
        raise ConvertError(f"{weight.path}: {name} is FP8, but there is no {name}_scale beside it")

    def experts(self, name: str, n_experts: int, n_rows: int, n_cols: int) -> StoredTensor:
        """A stored [n_experts, n_rows, n_cols], to be cut into views."""
        return self._plain(name, (n_experts, n_rows, n_cols))

    def untaken(self) -> Iterator[StoredTensor]:
        """What nobody has asked for."""
        return (stored for name, stored in self._tensors.items() if name not in self._taken)

    def _plain(self, name: str, shape: tuple[int, ...]) -> StoredTensor:
        stored = self._take(name, shape)
        if stored.dtype not in _PLAIN_DTYPES:
            raise ConvertError(
                f"{stored.path}: {name} is stored as {stored.dtype}; "
                f"convert from a checkpoint in {', '.join(_PLAIN_DTYPES)}"
            )
        return stored

    def _take(self, name: str, shape: tuple[int, ...]) -> StoredTensor:
        stored = self._tensors.get(name)
        if stored is None:
            raise ConvertError(
                f"{self._path}: has no tensor {name}, which config.json calls for; "
                "fetch the missing shard, or the config that belongs to it"
            )
        if stored.shape != shape:
            raise ConvertError(
                f"{stored.path}: {name} has shape {list(stored.shape)}, "
                f"but config.json calls for {list(shape)}"
            )
        self._taken.add(name)
        return stored
