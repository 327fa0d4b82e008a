"""The tokens of one decode, as llama.cpp takes them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import llama_cpp
import numpy as np

from l4cli.engine.types import BatchItem
from l4cli.engine.ubatches import Placed


class Batch:
    """A llama_batch over numpy arrays; filling it takes a few slice assignments."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._token = np.zeros(capacity, np.int32)
        self._pos = np.zeros(capacity, np.int32)
        self._n_seq_id = np.ones(capacity, np.int32)
        self._seq_id = np.zeros(capacity, np.int32)
        self._logits = np.zeros(capacity, np.int8)
        # llama_batch.seq_id is an array of pointers; here each points to one element of `_seq_id`.
        base, width = self._seq_id.ctypes.data, self._seq_id.itemsize
        self._seq_id_at = base + width * np.arange(capacity, dtype=np.uintp)
        self.struct = llama_cpp.llama_batch()
        for name, array in (
            ("token", self._token),
            ("pos", self._pos),
            ("n_seq_id", self._n_seq_id),
            ("seq_id", self._seq_id_at),
            ("logits", self._logits),
        ):
            field = dict(llama_cpp.llama_batch._fields_)[name]
            setattr(self.struct, name, ctypes.cast(array.ctypes.data, field))

    def fill(self, items: Sequence[BatchItem]) -> list[int]:
        """Write the items one after another; return the indices whose logits are kept, in order."""
        tokens: list[int] = []
        positions: list[int] = []
        seq_ids: list[int] = []
        outputs: list[int] = []
        for seq_id, pos, own, wants_logits, wants_all in items:
            tokens += own
            positions += range(pos, pos + len(own))
            seq_ids += [seq_id] * len(own)
            if wants_all:
                outputs += range(len(tokens) - len(own), len(tokens))
            elif wants_logits:
                outputs.append(len(tokens) - 1)
        total = len(tokens)
        if not 0 < total <= self.capacity:
            raise ValueError(f"a batch of {total} tokens for a capacity of {self.capacity}")
        self._token[:total] = tokens
        self._pos[:total] = positions
        self._seq_id[:total] = seq_ids
        self._logits[:total] = 0
        self._logits[outputs] = 1
        self.struct.n_tokens = total
        return outputs

    @property
    def placed(self) -> Placed:
        """The tokens as `fill` wrote them; valid until it is called again."""
        n = self.struct.n_tokens
        return Placed(self._token[:n], self._seq_id[:n], self._pos[:n], self._logits[:n])
