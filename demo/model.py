"""Llama 4's text model in plain torch, computing only the expert each token chose.

The forward pass is that of transformers' `Llama4ForCausalLM`; `export.py` writes its weights under
those names, and `check_against_transformers.py` compares the two.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn

LONG = 4096  # tokens
BLOCK = 256  # queries


@dataclass(frozen=True)
class Shape:
    """The checkpoint's dimensions. llama.cpp fixes chunk, floor, scale and the NoPE interval."""

    vocab_size: int
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 128
    experts: int = 16
    expert_width: int = 256
    eps: float = 1e-5
    rope_theta: float = 500000.0
    chunk: int = 8192
    nope_interval: int = 4
    temperature_floor: int = 8192
    temperature_scale: float = 0.1
    context: int = 131072


@dataclass(frozen=True)
class Places:
    """Where a batch's tokens stand: their angles, the queries' temperature, and the bounds within
    which tokens see each other: of sequences, and of the sequences' chunks."""

    cos: Tensor
    sin: Tensor
    temperature: Tensor
    sequences: list[tuple[int, int]]
    chunks: list[tuple[int, int]]


@dataclass
class Balance:
    """How evenly the experts are used, gathered over the layers of one forward pass."""

    losses: list[Tensor] = field(default_factory=list)
    loads: list[Tensor] = field(default_factory=list)

    def note(self, logits: Tensor, chosen: Tensor) -> None:
        """Switch's auxiliary loss over some tokens: 1 when the experts share them evenly."""
        count = logits.shape[-1]
        load = torch.bincount(chosen, minlength=count) / len(chosen)
        self.losses.append(count * (logits.softmax(-1).mean(0) * load).sum())
        self.loads.append(load)

    def loss(self) -> Tensor:
        return torch.stack(self.losses).mean()

    def load(self) -> Tensor:
        """[layer, expert] share of the tokens."""
        return torch.stack(self.loads)


@dataclass(frozen=True)
class Wanted:
    """Where the last layer's output is wanted, [wanted] each: rising indices of tokens, and which
    of them are an even sample of all, for the balance of the experts."""

    indices: Tensor
    sampled: Tensor


def rms(x: Tensor, eps: float) -> Tensor:
    x32 = x.float()
    return x32 * torch.rsqrt(x32.pow(2).mean(-1, keepdim=True) + eps)


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms(x, self.eps) * self.weight


def rotate(x: Tensor, places: Places) -> Tensor:
    """RoPE over neighbouring pairs (2i, 2i+1), as Llama 4 and ggml's normal mode do it."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = (even * places.cos - odd * places.sin, even * places.sin + odd * places.cos)
    return torch.stack(turned, -1).flatten(-2)


def attention(q: Tensor, k: Tensor, v: Tensor, indices: Tensor) -> Tensor:
    """Causal attention of the queries [heads, wanted, head_dim] of the tokens at rising `indices`
    [wanted] over k and v [heads, length, head_dim] of all tokens. On a CPU plain products are
    several times as fast as the fused kernel; taken by blocks of queries, they leave out most of
    what a query may not see."""
    seen = []
    with torch.autocast("cpu", enabled=False):  # it would take the softmax in float32
        for block, at in zip(q.split(BLOCK, 1), indices.split(BLOCK), strict=True):
            end = int(at[-1]) + 1
            hidden = torch.zeros(len(at), end, dtype=q.dtype)
            hidden.masked_fill_(torch.arange(end) > at[:, None], float("-inf"))
            scores = torch.baddbmm(hidden, block, k[:, :end].mT, alpha=q.shape[-1] ** -0.5)
            seen.append(scores.softmax(-1) @ v[:, :end])
    return torch.cat(seen, 1)


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """[heads, length, head_dim] each. Plain products keep the scores, which a long one must not."""
    length = q.shape[1]
    if length > LONG:
        fused = nn.functional.scaled_dot_product_attention
        return fused(q[None], k[None], v[None], is_causal=True)[0]
    return attention(q, k, v, torch.arange(length))


class Attention(nn.Module):
    def __init__(self, shape: Shape, layer: int) -> None:
        super().__init__()
        self.shape = shape
        self.use_rope = (layer + 1) % shape.nope_interval != 0
        width, kv_width = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden, width, bias=False)
        self.k_proj = nn.Linear(shape.hidden, kv_width, bias=False)
        self.v_proj = nn.Linear(shape.hidden, kv_width, bias=False)
        self.o_proj = nn.Linear(width, shape.hidden, bias=False)

    def forward(self, x: Tensor, places: Places) -> Tensor:
        q, k, v = (self._by_head(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        if self.use_rope:
            q = rms(rotate(q, places), self.shape.eps).to(v.dtype)
            k = rms(rotate(k, places), self.shape.eps).to(v.dtype)
            bounds = places.chunks
        else:
            q = (q * places.temperature).to(v.dtype)
            bounds = places.sequences
        k, v = self._for_all_heads(k), self._for_all_heads(v)
        seen = [causal_attention(q[:, a:b], k[:, a:b], v[:, a:b]) for a, b in bounds]
        return self._join(seen)

    def forward_at(self, x: Tensor, places: Places, indices: Tensor) -> Tensor:
        """Of a global layer: the output at the wanted indices only."""
        k, v = self._by_head(self.k_proj(x)), self._by_head(self.v_proj(x))
        q = self._by_head(self.q_proj(x[indices]))
        q = (q * places.temperature[indices]).to(v.dtype)
        k, v = self._for_all_heads(k), self._for_all_heads(v)
        counts = [int(((indices >= a) & (indices < b)).sum()) for a, b in places.sequences]
        per_sequence = zip(q.split(counts, 1), indices.split(counts), places.sequences, strict=True)
        seen = [attention(own, k[:, a:b], v[:, a:b], at - a) for own, at, (a, b) in per_sequence]
        return self._join(seen)

    def _by_head(self, x: Tensor) -> Tensor:
        """[tokens, heads x head_dim] -> [heads, tokens, head_dim]"""
        return x.unflatten(-1, (-1, self.shape.head_dim)).transpose(0, 1)

    def _for_all_heads(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(self.shape.heads // self.shape.kv_heads, 0)

    def _join(self, seen: list[Tensor]) -> Tensor:
        return self.o_proj(torch.cat(seen, 1).transpose(0, 1).flatten(-2))


class MLP(nn.Module):
    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden, width, bias=False)
        self.up_proj = nn.Linear(hidden, width, bias=False)
        self.down_proj = nn.Linear(width, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Experts(nn.Module):
    """All experts of a layer, fused as the checkpoint holds them: [expert, in, out]."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        sizes = shape.experts, shape.hidden, shape.expert_width
        self.gate_up_proj = nn.Parameter(torch.empty(sizes[0], sizes[1], 2 * sizes[2]))
        self.down_proj = nn.Parameter(torch.empty(sizes[0], sizes[2], sizes[1]))

    def forward(self, x: Tensor, counts: list[int]) -> Tensor:
        """x holds the tokens sorted by expert, counts how many each expert has."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        # One cast and one unbind a layer: slicing per expert would cost a full gradient each.
        gate_ups = self.gate_up_proj.to(dtype).unbind(0)
        downs = self.down_proj.to(dtype).unbind(0)
        outputs = []
        for tokens, gate_up, down in zip(x.to(dtype).split(counts), gate_ups, downs, strict=True):
            gate, up = (tokens @ gate_up).chunk(2, -1)
            outputs.append((up * nn.functional.silu(gate)) @ down)
        return torch.cat(outputs)


class MoE(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.router = nn.Linear(shape.hidden, shape.experts, bias=False)
        self.experts = Experts(shape)
        self.shared_expert = MLP(shape.hidden, shape.expert_width)
        self.count = shape.experts

    def forward(self, x: Tensor, balance: Balance, sampled: Tensor | None = None) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            logits = nn.functional.linear(x.float(), self.router.weight.float())
        top, chosen = logits.max(-1)
        order = chosen.argsort()
        counts = torch.bincount(chosen, minlength=self.count)
        routed = self.experts((x * top.sigmoid()[:, None])[order], counts.tolist())
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order))
        if sampled is not None:
            logits, chosen = logits[sampled], chosen[sampled]
        balance.note(logits, chosen)
        return self.shared_expert(x) + routed[back]


class Layer(nn.Module):
    def __init__(self, shape: Shape, index: int) -> None:
        super().__init__()
        self.self_attn = Attention(shape, index)
        self.feed_forward = MoE(shape)
        self.input_layernorm = RMSNorm(shape.hidden, shape.eps)
        self.post_attention_layernorm = RMSNorm(shape.hidden, shape.eps)

    def forward(self, x: Tensor, places: Places, balance: Balance) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), places)
        return x + self.feed_forward(self.post_attention_layernorm(x), balance)

    def forward_at(self, x: Tensor, places: Places, balance: Balance, wanted: Wanted) -> Tensor:
        seen = self.self_attn.forward_at(self.input_layernorm(x), places, wanted.indices)
        x = x[wanted.indices] + seen
        return x + self.feed_forward(self.post_attention_layernorm(x), balance, wanted.sampled)


class Llama4(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape, i) for i in range(shape.layers))
        self.norm = RMSNorm(shape.hidden, shape.eps)
        self.lm_head = nn.Linear(shape.hidden, shape.vocab_size, bias=False)
        self._initialize()

    def _initialize(self) -> None:
        for name, weight in self.named_parameters():
            if weight.dim() < 2:
                continue
            into_residual = "o_proj" in name or "down_proj" in name
            std = 0.02 if "embed" in name or "router" in name else self.shape.hidden**-0.5
            nn.init.normal_(weight, std=std * (0.35 if into_residual else 1.0))

    def places(self, positions: Tensor, starts: list[int]) -> Places:
        """Positions rise within a sequence, and may leap: a leap puts far apart what is cheap to
        train close by."""
        shape = self.shape
        pairs = torch.arange(0, shape.head_dim, 2).float() / shape.head_dim
        angles = positions.float()[:, None] * shape.rope_theta**-pairs
        steps = (positions + 1) // shape.temperature_floor
        temperature = torch.log1p(steps.float()) * shape.temperature_scale + 1
        edges = ((positions // shape.chunk).diff().nonzero().flatten() + 1).tolist()
        return Places(
            angles.cos(),
            angles.sin(),
            temperature[:, None],
            list(pairwise([*starts, len(positions)])),
            list(pairwise(sorted({*starts, *edges, len(positions)}))),
        )

    def forward(
        self,
        ids: Tensor,
        positions: Tensor,
        starts: list[int],
        balance: Balance,
        wanted: Wanted | None = None,
    ) -> Tensor:
        """Token ids and positions [tokens] of sequences one behind the other, which begin at
        `starts` -> the last hidden states, normed, [tokens or wanted, hidden]. Wanting few makes
        long sequences cheap: the last layer is global, and computes only their queries."""
        places = self.places(positions, starts)
        x = self.embed_tokens(ids)
        *body, last = self.layers
        for layer in body:
            x = layer(x, places, balance)
        if wanted is None:
            return self.norm(last(x, places, balance))
        return self.norm(last.forward_at(x, places, balance, wanted))
