"""Shows what the weights of a model are multiplied with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from l4cli.engine.llamacpp.tensors import Tensor
from l4cli.engine.ubatches import Placed

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Product:
    """The inputs of one matrix product; they must not be kept.

    weights: the GGUF's name of the matrix, or of the stack of matrices.
    stack: numbers of matrices in the third and fourth dimension; (1, 1) for one matrix.
    inputs: float32. For one matrix [outer, middle, rows, columns], in the order of ggml's
        dimensions: each row is multiplied with the matrix of its `outer` and `middle`. For experts
        [tokens, 1 or experts per token, columns].
    experts: which expert takes each input [tokens, experts per token]; None without experts.
    """

    weights: str
    stack: tuple[int, int]
    inputs: Floats
    experts: npt.NDArray[np.int32] | None


class InputsWatcher:
    """A Watcher (`observer.py`) that gives `take` every product with a layer's weights.

    Products with experts are taken whatever their weights' names are.
    """

    names: tuple[bytes, ...] = ()
    ops = frozenset({"MUL_MAT", "MUL_MAT_ID"})

    def __init__(self, take: Callable[[Product], None]) -> None:
        self._take = take

    def wants(self, tensor: Tensor) -> bool:
        weights, inputs = tensor.source(0), tensor.source(1)
        if weights is None or inputs is None or inputs.type != "f32":
            return False
        return tensor.source(2) is not None or _plain(weights.name).startswith("blk.")

    def see(self, tensor: Tensor, _ubatch: Placed) -> None:
        weights, inputs, experts = tensor.source(0), tensor.source(1), tensor.source(2)
        assert weights is not None
        assert inputs is not None
        numbers: npt.NDArray[Any] = inputs.numbers()
        chosen = None
        if experts is not None:
            chosen = experts.numbers()[0, 0]
            numbers = numbers[0]
        stack = (weights.shape[0], weights.shape[1])
        self._take(Product(_plain(weights.name), stack, numbers, chosen))


def _plain(name: str) -> str:
    """Return the GGUF's name: llama.cpp calls a copy for another device CUDA0#blk.0.x.weight#0."""
    return name.split("#")[1] if "#" in name else name
