"""Llama 4's text model in plain torch. It computes only the expert that each token chose.

The forward pass is that of transformers' `Llama4ForCausalLM`; tests/training compares the two.
`checkpoint.py` reads and writes the weights under transformers' names.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from training.attention import Attention
from training.auxiliary_losses import Recorder
from training.dimensions import Dimensions
from training.key_value_memory import MemoryAccess
from training.norm import RMSNorm
from training.positions import BatchPositions, batch_positions


@dataclass
class ExpertBalance:
    """How evenly the experts are used, collected over the layers of one forward pass."""

    losses: list[Tensor] = field(default_factory=list)
    loads: list[Tensor] = field(default_factory=list)

    def add(self, logits: Tensor, chosen: Tensor) -> None:
        """Add one layer's auxiliary loss, that of Switch Transformers (arXiv 2101.03961).

        It is 1 when the experts share the tokens evenly.

        logits: the router's [tokens, experts].
        chosen: the chosen expert [tokens].
        """
        count = logits.shape[-1]
        load = torch.bincount(chosen, minlength=count) / len(chosen)
        self.losses.append(count * (logits.softmax(-1).mean(0) * load).sum())
        self.loads.append(load)

    def loss(self) -> Tensor:
        """Return the layers' average loss."""
        return torch.stack(self.losses).mean()

    def load(self) -> Tensor:
        """Return each expert's share of the tokens [layers with experts, experts]."""
        return torch.stack(self.loads)


@dataclass(frozen=True)
class OutputTokens:
    """The tokens for which the last layer's output is needed.

    indices: rising indices of tokens [outputs].
    sampled: which of them are an even sample of all tokens [outputs]; the experts are balanced on
        these.
    """

    indices: Tensor
    sampled: Tensor


class MLP(nn.Module):
    """A gated MLP: of a dense layer, or the expert that all tokens share."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden, width, bias=False)
        self.up_proj = nn.Linear(hidden, width, bias=False)
        self.down_proj = nn.Linear(width, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Experts(nn.Module):
    """All experts of a layer, in one tensor as in the checkpoint: [experts, in, out]."""

    def __init__(self, dimensions: Dimensions) -> None:
        super().__init__()
        experts, hidden, width = dimensions.experts, dimensions.hidden, dimensions.expert_width
        self.gate_up_proj = nn.Parameter(torch.empty(experts, hidden, 2 * width))
        self.down_proj = nn.Parameter(torch.empty(experts, width, hidden))

    def forward(self, x: Tensor, counts: list[int]) -> Tensor:
        """Return the outputs for tokens x, sorted by expert; `counts`: tokens of each expert."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        # One cast and one unbind for all experts: a slice for each expert would cost a gradient of
        # the full size each.
        gate_ups = self.gate_up_proj.to(dtype).unbind(0)
        downs = self.down_proj.to(dtype).unbind(0)
        outputs = []
        for tokens, gate_up, down in zip(x.to(dtype).split(counts), gate_ups, downs, strict=True):
            gate, up = (tokens @ gate_up).chunk(2, -1)
            outputs.append((up * nn.functional.silu(gate)) @ down)
        return torch.cat(outputs)


class MoE(nn.Module):
    """A layer's router, its experts, and the expert that all tokens share."""

    def __init__(self, dimensions: Dimensions) -> None:
        super().__init__()
        self.router = nn.Linear(dimensions.hidden, dimensions.experts, bias=False)
        self.experts = Experts(dimensions)
        self.shared_expert = MLP(dimensions.hidden, dimensions.expert_width)
        self.count = dimensions.experts

    def forward(self, x: Tensor, balance: ExpertBalance, sampled: Tensor | None = None) -> Tensor:
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
        balance.add(logits, chosen)
        return self.shared_expert(x) + routed[back]


class Layer(nn.Module):
    """One transformer block: attention, then experts or a dense MLP."""

    def __init__(self, dimensions: Dimensions, index: int) -> None:
        super().__init__()
        self.self_attn = Attention(dimensions, index)
        self.feed_forward = (
            MoE(dimensions)
            if dimensions.is_moe(index)
            else MLP(dimensions.hidden, dimensions.dense_width)
        )
        self.input_layernorm = RMSNorm(dimensions.hidden, dimensions.eps)
        self.post_attention_layernorm = RMSNorm(dimensions.hidden, dimensions.eps)

    def forward(
        self,
        x: Tensor,
        positions: BatchPositions,
        balance: ExpertBalance,
        memory: MemoryAccess | None,
        recorder: Recorder | None = None,
    ) -> Tensor:
        """Return the output for all tokens of x [tokens, hidden]."""
        x = x + self.self_attn(self.input_layernorm(x), positions, memory, recorder)
        return x + self._feed_forward(x, balance)

    def forward_at(
        self,
        x: Tensor,
        positions: BatchPositions,
        balance: ExpertBalance,
        outputs: OutputTokens,
        memory: MemoryAccess | None,
    ) -> Tensor:
        """Return the output for some tokens only."""
        normed = self.input_layernorm(x)
        attended = self.self_attn.forward_at(normed, positions, outputs.indices, memory)
        x = x[outputs.indices] + attended
        return x + self._feed_forward(x, balance, outputs.sampled)

    def _feed_forward(
        self, x: Tensor, balance: ExpertBalance, sampled: Tensor | None = None
    ) -> Tensor:
        x = self.post_attention_layernorm(x)
        if isinstance(self.feed_forward, MLP):
            return self.feed_forward(x)
        return self.feed_forward(x, balance, sampled)


class Llama4(nn.Module):
    """The whole text model."""

    def __init__(self, dimensions: Dimensions) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.embed_tokens = nn.Embedding(dimensions.vocab_size, dimensions.hidden)
        self.layers = nn.ModuleList(Layer(dimensions, i) for i in range(dimensions.layers))
        self.norm = RMSNorm(dimensions.hidden, dimensions.eps)
        self.lm_head = nn.Linear(dimensions.hidden, dimensions.vocab_size, bias=False)
        self._initialize()

    def _initialize(self) -> None:
        for name, weight in self.named_parameters():
            if weight.dim() < 2:
                continue
            into_residual = "o_proj" in name or "down_proj" in name
            small = "embed" in name or "router" in name
            std = 0.02 if small else self.dimensions.hidden**-0.5
            nn.init.normal_(weight, std=std * (0.35 if into_residual else 1.0))

    def early_logits(self, x: Tensor) -> Tensor:
        """Return the output matrix's logits for hidden states [tokens, hidden] between layers.

        The output matrix itself gets no gradient from them.
        """
        return nn.functional.linear(self.norm(x), self.lm_head.weight.detach())

    def forward(
        self,
        ids: Tensor,
        positions: Tensor,
        starts: list[int],
        balance: ExpertBalance,
        outputs: OutputTokens | None = None,
        memory: MemoryAccess | None = None,
        recorder: Recorder | None = None,
    ) -> Tensor:
        """Return the last hidden states, normed [tokens or outputs, hidden].

        ids, positions: of sequences one after the other [tokens].
        starts: the token at which each sequence begins.
        balance: collects how the experts are used.
        outputs: the tokens whose output is needed; None means all. Few make long sequences cheap:
            the last layer is global, and then computes only their queries.
        memory: fills the sequences' gaps, and stores their keys and values.
        recorder: collects what the auxiliary losses need.
        """
        fillings = memory.fillings if memory else None
        where = batch_positions(self.dimensions, positions, starts, fillings)
        x = self.embed_tokens(ids)
        *body, last = self.layers
        for number, layer in enumerate(body):
            x = layer(x, where, balance, memory, recorder)
            if recorder:
                recorder.record(x, number, before_global=self.dimensions.is_global(number + 1))
        if outputs is None:
            return self.norm(last(x, where, balance, memory))
        return self.norm(last.forward_at(x, where, balance, outputs, memory))
