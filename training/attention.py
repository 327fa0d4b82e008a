"""Llama 4's attention: chunks with RoPE, or the whole sequence without, and over backdrops."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.backdrop import KeysValues, Recall
from training.blocked import Blocked
from training.carry import POINTING, Taps
from training.looks import LOOKING, RECALLING
from training.parts import Shape, rms
from training.places import Angles, Places, Segment


@dataclass(frozen=True)
class Behind:
    """A backdrop to one attention: keys and values [kv_heads, some, head_dim], and what is added to
    the scores [wanted, some]."""

    keys: Tensor
    values: Tensor
    bias: Tensor

    def mass(self, queries: Tensor, kv_head: Tensor) -> Tensor:
        """Of some heads' queries [wanted, head_dim], the logarithm of what they would share out
        here [wanted]."""
        scores = self.bias.float().clamp(min=-1e4)  # a sum of nothing would have no gradient
        for head, keys in enumerate(self.keys):
            own = (kv_head == head).nonzero()[:, 0]
            products = (queries[own] @ keys.mT).float() * queries.shape[-1] ** -0.5
            scores = scores.index_add(0, own, products)
        return scores.logsumexp(-1)


def attention(
    q: Tensor, k: Tensor, v: Tensor, indices: Tensor, behind: Behind | None = None
) -> Tensor:
    """Causal attention of the queries [heads, wanted, head_dim] of the tokens at rising `indices`
    [wanted] over k and v [kv_heads, length, head_dim] of all tokens, and what is behind them."""
    bias = q.new_empty(len(indices), 0)
    if behind:
        k, v = torch.cat([behind.keys, k], 1), torch.cat([behind.values, v], 1)
        bias = behind.bias
    return Blocked.apply(q, k, v, indices, bias, torch.is_grad_enabled())


class Attention(nn.Module):
    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        self.shape, self.layer = shape, layer
        self.use_rope = not shape.is_global(layer)
        width, kv_width = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden, width, bias=False)
        self.k_proj = nn.Linear(shape.hidden, kv_width, bias=False)
        self.v_proj = nn.Linear(shape.hidden, kv_width, bias=False)
        self.o_proj = nn.Linear(width, shape.hidden, bias=False)

    def forward(
        self, x: Tensor, places: Places, recall: Recall | None = None, taps: Taps | None = None
    ) -> Tensor:
        q = self._by_head(self.q_proj(x))
        k, v = self._keys_and_values(x, places, recall)
        if self.use_rope:
            q = rms(places.angles.rotate(q), self.shape.eps).to(v.dtype)
            segments = places.chunks
        else:
            q = (q * places.temperature).to(v.dtype)
            segments = places.narrowed
        lengths = [segment.length for segment in segments]
        if taps and self.layer in (*POINTING, LOOKING, RECALLING):
            segment_of = torch.arange(len(segments)).repeat_interleave(torch.tensor(lengths))
            if self.layer in POINTING:
                taps.point(q, k.repeat_interleave(len(q) // len(k), 0), segment_of)
            else:
                self._look(taps, q, k, segment_of, places, recall)
        parts = zip(*(x.split(lengths, 1) for x in (q, k, v)), segments, strict=True)
        seen = []
        for queries, keys, values, segment in parts:
            at = places.positions[segment.begin : segment.end]
            behind = self._behind(segment, at, v.dtype, recall)
            every = torch.arange(segment.length)
            seen.append(attention(queries, keys, values, every, behind))
        return self._join(seen)

    def _look(
        self, taps: Taps, q: Tensor, k: Tensor, segment_of: Tensor, places: Places,
        recall: Recall | None,
    ) -> None:  # fmt: skip
        """What is to be found across chunks must stand out from the backdrops' places too."""
        sharing = len(q) // len(k)
        shown = taps.shown(self.layer, segment_of)
        behind = torch.full((len(shown.place),), float("-inf"))
        for number, sequence in enumerate([] if self.use_rope else places.sequences):
            own = (segment_of[shown.place] == number).nonzero()[:, 0]
            place, head = shown.place[own], shown.head[own]
            if found := self._behind(sequence, places.positions[place], k.dtype, recall):
                behind = behind.index_put((own,), found.mass(q[head, place], head // sharing))
        taps.look(shown, q, k.repeat_interleave(sharing, 0), segment_of, behind)

    def forward_at(
        self, x: Tensor, places: Places, indices: Tensor, recall: Recall | None = None
    ) -> Tensor:
        """Of a global layer: the output at the wanted indices only."""
        k, v = self._keys_and_values(x, places, recall)
        q = self._by_head(self.q_proj(x[indices]))
        q = (q * places.temperature[indices]).to(v.dtype)
        segments = places.sequences
        counts = [int(((indices >= s.begin) & (indices < s.end)).sum()) for s in segments]
        lengths = [segment.length for segment in segments]
        parts = zip(
            q.split(counts, 1), k.split(lengths, 1), v.split(lengths, 1),
            indices.split(counts), segments, strict=True,
        )  # fmt: skip
        seen = []
        for queries, keys, values, at, segment in parts:
            behind = self._behind(segment, places.positions[at], v.dtype, recall)
            seen.append(attention(queries, keys, values, at - segment.begin, behind))
        return self._join(seen)

    def _keys_and_values(self, x: Tensor, places: Places, recall: Recall | None) -> KeysValues:
        k, v = self._by_head(self.k_proj(x)), self._by_head(self.v_proj(x))
        if self.use_rope:
            k = rms(k, self.shape.eps)  # the same before the rotation as behind it
        if recall:
            recall.note(k, v)
        if self.use_rope:
            k = places.angles.rotate(k).to(v.dtype)
        return k, v

    def _behind(
        self, segment: Segment, positions: Tensor, dtype: torch.dtype, recall: Recall | None
    ) -> Behind | None:
        """What the queries at these positions see of the segment's backdrop."""
        backdrop = segment.backdrop
        if not (recall and recall.known and backdrop):
            return None
        k, v = backdrop.of(recall.known[self.layer])
        if self.use_rope:
            k = Angles(backdrop.positions, self.shape).rotate(k)
        return Behind(k.to(dtype), v.to(dtype), backdrop.bias(positions, dtype))

    def _by_head(self, x: Tensor) -> Tensor:
        """[tokens, heads x head_dim] -> [heads, tokens, head_dim]"""
        return x.unflatten(-1, (-1, self.shape.head_dim)).transpose(0, 1)

    def _join(self, seen: list[Tensor]) -> Tensor:
        return self.o_proj(torch.cat(seen, 1).transpose(0, 1).flatten(-2))
