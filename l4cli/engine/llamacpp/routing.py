"""Tells which experts the tokens of a decode were sent to."""

from __future__ import annotations

import re
from collections.abc import Callable

from l4cli.engine.llamacpp.tensors import Tensor
from l4cli.engine.ubatches import Ints, Placed

_CHOSEN = "ffn_moe_topk"  # llama.cpp's name for the chosen experts of a layer's tokens
_LAYER = re.compile(rf"{_CHOSEN}-(\d+)")

# Called with a layer, the tokens that are computed there, and their experts [tokens, per token].
Take = Callable[[int, Placed, Ints], None]


class RoutingWatcher:
    """A Watcher (`observer.py`) that gives `take` the chosen experts, layer by layer.

    Behind the attention of the last layer, llama.cpp computes only the tokens whose logits are
    kept; other tokens are sent to no expert there.
    """

    names = (_CHOSEN.encode(),)
    ops: frozenset[str] = frozenset()

    def __init__(self, take: Take) -> None:
        self._take = take

    def wants(self, tensor: Tensor) -> bool:
        return bool(_LAYER.fullmatch(tensor.name))

    def see(self, tensor: Tensor, ubatch: Placed) -> None:
        match = _LAYER.fullmatch(tensor.name)
        assert match
        chosen = tensor.numbers()[0, 0]
        if len(chosen):
            self._take(int(match[1]), ubatch.of_columns(len(chosen)), chosen)
