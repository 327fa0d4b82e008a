"""Keys and values of documents from earlier batches. They fill the gaps of later documents.

`long_context.py` says what gaps are for.
"""

from dataclasses import dataclass

from torch import Tensor, arange

from training.long_context import GapFilling

CAPACITY = 20480  # tokens

KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class MemoryAccess:
    """What one forward pass reads from the memory, and what it leaves for it.

    stored: each layer's keys (before RoPE) and values [kv_heads, tokens, head_dim]; empty while the
        memory is empty.
    fillings: what fills each sequence's gaps, or None.
    kept: indices of the pass's tokens that the memory shall store.
    new: each layer's keys and values of these tokens; the layers append to it in their order.
    """

    stored: list[KeysValues]
    fillings: list[GapFilling | None]
    kept: Tensor
    new: list[KeysValues]

    def keep(self, keys: Tensor, values: Tensor) -> None:
        """Append one layer's keys (before RoPE) and values to `new`."""
        pair = (keys.detach()[:, self.kept], values.detach()[:, self.kept])
        self.new.append((pair[0].bfloat16(), pair[1].bfloat16()))


class KeyValueMemory:
    """The newest CAPACITY tokens' keys and values in every layer. New ones overwrite the oldest."""

    def __init__(self) -> None:
        self.layers: list[KeysValues] = []
        self.filled, self.next = 0, 0

    def access(self, fillings: list[GapFilling | None], kept: Tensor) -> MemoryAccess:
        """Return the access for one forward pass over sequences with these gap fillings."""
        held = self.layers if self.filled else []
        stored = [(k[:, : self.filled], v[:, : self.filled]) for k, v in held]
        return MemoryAccess(stored, fillings, kept, [])

    def add(self, new: list[KeysValues]) -> None:
        """Store one pass's keys and values of all layers."""
        if not self.layers:
            self.layers = [(_empty(k), _empty(v)) for k, v in new]
        count = new[0][0].shape[1]
        slots = (arange(count)[-CAPACITY:] + self.next) % CAPACITY
        for (ks, vs), (k, v) in zip(self.layers, new, strict=True):
            ks[:, slots] = k[:, -CAPACITY:]
            vs[:, slots] = v[:, -CAPACITY:]
        self.filled = min(CAPACITY, self.filled + count)
        self.next = (self.next + count) % CAPACITY


def _empty(like: Tensor) -> Tensor:
    return like.new_empty(like.shape[0], CAPACITY, like.shape[2])
