"""Tells which experts the tokens of a decode were sent to."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from l4cli.engine.llamacpp.tensors import Tensor
from l4cli.engine.types import ExpertCounts
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


class AnswerRoutes:
    """Remembers which experts the tokens of answers were sent to, by sequence and position.

    Only tokens whose logits are kept count: all those of an answer that are put into the model,
    and the last one of its prompt. So it does not matter what else is in a batch, or what of a
    prompt was computed before. A token that is computed again replaces what was known of it.
    """

    def __init__(self) -> None:
        self.watcher = RoutingWatcher(self._note)
        self._found: dict[int, dict[int, dict[int, Ints]]] = {}  # sequence, position, layer

    def _note(self, layer: int, placed: Placed, chosen: Ints) -> None:
        kept = np.flatnonzero(placed.kept)
        own = chosen[kept].copy()
        for seq_id, pos, experts in zip(
            placed.seq_ids[kept].tolist(), placed.positions[kept].tolist(), own, strict=True
        ):
            self._found.setdefault(seq_id, {}).setdefault(pos, {})[layer] = experts

    def take(self, seq_id: int, start: int, stop: int) -> ExpertCounts | None:
        """Return how often each layer chose each expert for the positions from start to stop.

        The sequence has ended: all that is known of it is forgotten. None if a token was computed
        without its logits, as after an interrupt, since the last layer then left it out.
        """
        found = self._found.pop(seq_id, {})
        total: dict[int, dict[int, int]] = {}
        for pos in range(start, stop):
            if pos not in found:
                return None
            for layer, experts in found[pos].items():
                own = total.setdefault(layer, {})
                for expert in experts.tolist():
                    own[expert] = own.get(expert, 0) + 1
        return {layer: dict(sorted(total[layer].items())) for layer in sorted(total)}
