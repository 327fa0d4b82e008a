"""Gives an architecture the tensors it asks for, each with its name and shape checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from convert.checkpoint.checkpoint import StoredTensor
from convert.checkpoint.scheme import SCALE_SUFFIXES, Block, packed_bits, place_scale
from convert.checkpoint.tensors import View
from convert.errors import ConvertError

_PLAIN_DTYPES = ("F32", "F16", "BF16")
_SCALED_DTYPES = ("F8_E4M3", "I8")
_COMPANION_SUFFIXES = (*SCALE_SUFFIXES, "_zero_point", "_g_idx", "_shape")


class Source:
    """Gives out tensors by their canonical names, and remembers which ones were taken.

    path: the checkpoint, for error messages.
    block: rows and columns that share a scale, in a block-quantized checkpoint.

    `vector`, `matrix` and `experts` raise ConvertError if the tensor is missing, has another shape
    than config.json calls for, or an unsupported dtype.
    """

    def __init__(
        self, path: Path, tensors: Mapping[str, StoredTensor], block: Block | None
    ) -> None:
        self._path = path
        self._tensors = tensors
        self._block = block
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._tensors or f"{name}_packed" in self._tensors

    def vector(self, name: str, n: int) -> View:
        """The stored vector [n] as one row."""
        return View(self._plain(name, (n,)), 1, n, 0, n, 1)

    def matrix(self, name: str, n_rows: int, n_cols: int, *, head_rows: int = 0) -> View:
        """The stored matrix [n_rows, n_cols], with its scales if it is quantized.

        head_rows: see `View`.
        """
        shape, packed = (n_rows, n_cols), self._tensors.get(f"{name}_packed")
        stored = self._tensors.get(name)
        either = packed or stored
        if either is not None and either.is_absent:
            self._taken.update(name + suffix for suffix in _COMPANION_SUFFIXES)
            weight = self._take(name if stored else f"{name}_packed", shape)
            return View(weight, n_rows, n_cols, 0, n_cols, 1)
        if packed is not None:
            bits = packed_bits(packed, *shape)
            weight = self._take(f"{name}_packed", packed.shape)
            scale = place_scale(name, shape, self._companions(name, weight), bits=bits)
        elif stored is not None and stored.dtype in _SCALED_DTYPES:
            weight = self._take(name, shape)
            scale = place_scale(name, shape, self._companions(name, weight), block=self._block)
        else:
            plain = self._plain(name, shape)
            return View(plain, n_rows, n_cols, 0, n_cols, 1, head_rows=head_rows)
        return View(weight, n_rows, n_cols, 0, weight.shape[1], 1, scale, head_rows)

    def experts(self, name: str, n_experts: int, n_rows: int, n_cols: int) -> StoredTensor:
        """The stored tensor [n_experts, n_rows, n_cols]; the caller makes views of it."""
        return self._plain(name, (n_experts, n_rows, n_cols))

    def untaken(self) -> Iterator[StoredTensor]:
        """The stored tensors that have not been asked for."""
        return (stored for name, stored in self._tensors.items() if name not in self._taken)

    def _companions(self, name: str, weight: StoredTensor) -> dict[str, StoredTensor]:
        """The scales, zero points and group indices of the quantized matrix `name`, by suffix.

        Raises ConvertError if there are no scales.
        """
        found = {
            suffix: self._tensors[name + suffix]
            for suffix in _COMPANION_SUFFIXES
            if name + suffix in self._tensors
        }
        if not any(suffix in found for suffix in SCALE_SUFFIXES):
            kind = {"F8_E4M3": "FP8"}.get(weight.dtype, weight.dtype)
            raise ConvertError(
                f"{weight.path}: {name} is {kind}, but there is no {name}_scale for it"
            )
        self._taken.update(name + suffix for suffix in found)
        return found

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
        if stored.is_absent:
            stored = replace(stored, shape=shape)  # its shape is unknown, so trust config.json
        if stored.shape != shape:
            raise ConvertError(
                f"{stored.path}: {name} has shape {list(stored.shape)}, "
                f"but config.json calls for {list(shape)}"
            )
        self._taken.add(name)
        return stored
