"""Llama 4's text model in plain torch, computing only the expert each token chose.

The forward pass is that of transformers' `Llama4ForCausalLM`; `export.py` writes its weights under
those names, and `check_against_transformers.py` compares the two.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from training.attention import Attention
from training.backdrop import Recall
from training.carry import Taps
from training.parts import RMSNorm, Shape
from training.places import Places, places


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
        """[layer that routes, expert] share of the tokens."""
        return torch.stack(self.loads)


@dataclass(frozen=True)
class Wanted:
    """Where the last layer's output is wanted, [wanted] each: rising indices of tokens, and which
    of them are an even sample of all, for the balance of the experts."""

    indices: Tensor
    sampled: Tensor


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
        dense = MLP(shape.hidden, shape.dense_width)
        self.feed_forward = MoE(shape) if shape.is_moe(index) else dense
        self.input_layernorm = RMSNorm(shape.hidden, shape.eps)
        self.post_attention_layernorm = RMSNorm(shape.hidden, shape.eps)

    def forward(
        self,
        x: Tensor,
        places: Places,
        balance: Balance,
        recall: Recall | None,
        taps: Taps | None = None,
    ) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), places, recall, taps)
        return x + self._feed_forward(x, balance)

    def forward_at(
        self,
        x: Tensor,
        places: Places,
        balance: Balance,
        wanted: Wanted,
        recall: Recall | None,
    ) -> Tensor:
        seen = self.self_attn.forward_at(self.input_layernorm(x), places, wanted.indices, recall)
        x = x[wanted.indices] + seen
        return x + self._feed_forward(x, balance, wanted.sampled)

    def _feed_forward(self, x: Tensor, balance: Balance, sampled: Tensor | None = None) -> Tensor:
        x = self.post_attention_layernorm(x)
        if isinstance(self.feed_forward, MLP):
            return self.feed_forward(x)
        return self.feed_forward(x, balance, sampled)


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

    def early(self, x: Tensor) -> Tensor:
        """What the output layer would say of hidden states [tokens, hidden] between layers; it is
        not to learn from that itself."""
        return nn.functional.linear(self.norm(x), self.lm_head.weight.detach())

    def forward(
        self,
        ids: Tensor,
        positions: Tensor,
        starts: list[int],
        balance: Balance,
        wanted: Wanted | None = None,
        recall: Recall | None = None,
        taps: Taps | None = None,
    ) -> Tensor:
        """Token ids and positions [tokens] of sequences one behind the other, which begin at
        `starts` -> the last hidden states, normed, [tokens or wanted, hidden]. Wanting few makes
        long sequences cheap: the last layer is global, and computes only their queries. With a
        recall, sequences see their backdrops. Taps are taken below the global layers, and
        from the one that looks on."""
        where = places(self.shape, positions, starts, recall.backdrops if recall else None)
        x = self.embed_tokens(ids)
        *body, last = self.layers
        for number, layer in enumerate(body):
            x = layer(x, where, balance, recall, taps)
            if taps:
                taps.take(x, number, below_global=self.shape.is_global(number + 1))
        if wanted is None:
            return self.norm(last(x, where, balance, recall))
        return self.norm(last.forward_at(x, where, balance, wanted, recall))
