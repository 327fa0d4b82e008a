"""Llama 4's attention: within chunks and with RoPE, or over the whole sequence and without RoPE.

Training adds two things to it: gaps that are filled with keys and values from the memory
(`long_context.py`), and losses on what heads attend to (`auxiliary_losses.py`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.attention_targets import FETCH_LAYER, SEARCH_LAYER
from training.auxiliary_losses import VALUE_LAYERS, Recorder
from training.blocked_attention import BlockedAttention
from training.dimensions import Dimensions
from training.key_value_memory import KeysValues, MemoryAccess
from training.norm import rms_norm
from training.positions import BatchPositions, RotaryAngles, Segment


@dataclass(frozen=True)
class FilledGaps:
    """A segment's gap filling as one layer attends to it.

    keys, values: [kv_heads, places, head_dim].
    bias: added to the scores [queries, places].
    """

    keys: Tensor
    values: Tensor
    bias: Tensor

    def scores_logsumexp(self, queries: Tensor, kv_head: Tensor) -> Tensor:
        """Return the logarithm of the summed exponentials of each query's scores [queries].

        queries: [queries, head_dim], each of the head that `kv_head` [queries] names.
        """
        scores = self.bias.float().clamp(min=-1e4)  # with -inf alone, the sum has no gradient
        for head, keys in enumerate(self.keys):
            own = (kv_head == head).nonzero()[:, 0]
            products = (queries[own] @ keys.mT).float() * queries.shape[-1] ** -0.5
            scores = scores.index_add(0, own, products)
        return scores.logsumexp(-1)


def attention(
    q: Tensor, k: Tensor, v: Tensor, indices: Tensor, gaps: FilledGaps | None = None
) -> Tensor:
    """Return causal attention of some tokens over all tokens of a segment and over its gaps.

    q: queries [heads, queries, head_dim] of the tokens at rising `indices` [queries].
    k, v: keys and values of all tokens [kv_heads, length, head_dim].
    """
    bias = q.new_empty(len(indices), 0)
    if gaps:
        k, v = torch.cat([gaps.keys, k], 1), torch.cat([gaps.values, v], 1)
        bias = gaps.bias
    return BlockedAttention.apply(q, k, v, indices, bias, torch.is_grad_enabled())


class Attention(nn.Module):
    """The attention of one layer."""

    def __init__(self, dimensions: Dimensions, layer: int) -> None:
        super().__init__()
        self.dimensions, self.layer = dimensions, layer
        self.use_rope = not dimensions.is_global(layer)
        width = dimensions.heads * dimensions.head_dim
        kv_width = dimensions.kv_heads * dimensions.head_dim
        self.q_proj = nn.Linear(dimensions.hidden, width, bias=False)
        self.k_proj = nn.Linear(dimensions.hidden, kv_width, bias=False)
        self.v_proj = nn.Linear(dimensions.hidden, kv_width, bias=False)
        self.o_proj = nn.Linear(width, dimensions.hidden, bias=False)

    def forward(
        self,
        x: Tensor,
        positions: BatchPositions,
        memory: MemoryAccess | None = None,
        recorder: Recorder | None = None,
    ) -> Tensor:
        """Return the output for all tokens of x [tokens, hidden]."""
        q = self._by_head(self.q_proj(x))
        k, v = self._keys_and_values(x, positions, memory)
        if self.use_rope:
            q = rms_norm(positions.angles.rotate(q), self.dimensions.eps).to(v.dtype)
            segments = positions.chunks
        else:
            q = (q * positions.temperature).to(v.dtype)
            segments = positions.thinned_sequences
        lengths = [segment.length for segment in segments]
        if recorder and self.layer in (*VALUE_LAYERS, SEARCH_LAYER, FETCH_LAYER):
            segment_of = torch.arange(len(segments)).repeat_interleave(torch.tensor(lengths))
            if self.layer in VALUE_LAYERS:
                by_head = k.repeat_interleave(len(q) // len(k), 0)
                recorder.attend_to_values(q, by_head, segment_of)
            else:
                self._attend_to_targets(recorder, q, k, segment_of, positions, memory)
        parts = zip(*(x.split(lengths, 1) for x in (q, k, v)), segments, strict=True)
        outputs = []
        for queries, keys, values, segment in parts:
            at = positions.positions[segment.begin : segment.end]
            gaps = self._gaps(segment, at, v.dtype, memory)
            every = torch.arange(segment.length)
            outputs.append(attention(queries, keys, values, every, gaps))
        return self._join(outputs)

    def forward_at(
        self,
        x: Tensor,
        positions: BatchPositions,
        indices: Tensor,
        memory: MemoryAccess | None = None,
    ) -> Tensor:
        """Return a global layer's output for the tokens at `indices` only."""
        k, v = self._keys_and_values(x, positions, memory)
        q = self._by_head(self.q_proj(x[indices]))
        q = (q * positions.temperature[indices]).to(v.dtype)
        segments = positions.sequences
        counts = [int(((indices >= s.begin) & (indices < s.end)).sum()) for s in segments]
        lengths = [segment.length for segment in segments]
        parts = zip(
            q.split(counts, 1), k.split(lengths, 1), v.split(lengths, 1),
            indices.split(counts), segments, strict=True,
        )  # fmt: skip
        outputs = []
        for queries, keys, values, at, segment in parts:
            gaps = self._gaps(segment, positions.positions[at], v.dtype, memory)
            outputs.append(attention(queries, keys, values, at - segment.begin, gaps))
        return self._join(outputs)

    def _attend_to_targets(
        self,
        recorder: Recorder,
        q: Tensor,
        k: Tensor,
        segment_of: Tensor,
        positions: BatchPositions,
        memory: MemoryAccess | None,
    ) -> None:
        """Record the loss of the layer's targets. Filled gaps of a global layer compete, too."""
        sharing = len(q) // len(k)
        targets = recorder.visible(self.layer, segment_of)
        gap_scores = torch.full((len(targets.query),), float("-inf"))
        for number, sequence in enumerate([] if self.use_rope else positions.sequences):
            own = (segment_of[targets.query] == number).nonzero()[:, 0]
            query, head = targets.query[own], targets.head[own]
            if gaps := self._gaps(sequence, positions.positions[query], k.dtype, memory):
                scores = gaps.scores_logsumexp(q[head, query], head // sharing)
                gap_scores = gap_scores.index_put((own,), scores)
        by_head = k.repeat_interleave(sharing, 0)
        recorder.attend_to_targets(targets, q, by_head, segment_of, gap_scores)

    def _keys_and_values(
        self, x: Tensor, positions: BatchPositions, memory: MemoryAccess | None
    ) -> KeysValues:
        k, v = self._by_head(self.k_proj(x)), self._by_head(self.v_proj(x))
        if self.use_rope:
            k = rms_norm(k, self.dimensions.eps)  # a rotation does not change the norm
        if memory:
            memory.keep(k, v)
        if self.use_rope:
            k = positions.angles.rotate(k).to(v.dtype)
        return k, v

    def _gaps(
        self, segment: Segment, positions: Tensor, dtype: torch.dtype, memory: MemoryAccess | None
    ) -> FilledGaps | None:
        """Return what queries at these positions see in the segment's gaps."""
        filling = segment.filling
        if not (memory and memory.stored and filling):
            return None
        k, v = filling.of(memory.stored[self.layer])
        if self.use_rope:
            k = RotaryAngles(filling.positions, self.dimensions).rotate(k)
        return FilledGaps(k.to(dtype), v.to(dtype), filling.bias(positions, dtype))

    def _by_head(self, x: Tensor) -> Tensor:
        """[tokens, heads x head_dim] -> [heads, tokens, head_dim]"""
        return x.unflatten(-1, (-1, self.dimensions.head_dim)).transpose(0, 1)

    def _join(self, outputs: list[Tensor]) -> Tensor:
        return self.o_proj(torch.cat(outputs, 1).transpose(0, 1).flatten(-2))
