"""Decoders built like Llama, and the few things in which they differ.

Every block of Llama, Mistral, Mixtral, Qwen2, Qwen3 and Qwen3-MoE is a norm, attention, a norm and
a feed-forward network. A `Decoder` describes where an architecture differs. Sources: transformers
``models/*/modeling_*.py``; llama.cpp ``conversion/llama.py``, ``conversion/qwen.py`` and
``src/models/*.cpp``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from convert.architectures import blocks
from convert.checkpoint.hparams import Config, Hparams
from convert.checkpoint.rope import read_rope, scaling_fields
from convert.checkpoint.source import Source
from convert.checkpoint.tensors import OutputTensor
from convert.doctor.checkpoint import diagnose_decoder
from convert.gguf.fields import Field, f32, u32
from convert.types import Finding


@dataclass(frozen=True)
class Experts:
    """What an architecture calls its experts, in tensor names and in config.json."""

    prefix: str  # of the router and the experts, within a block
    names: dict[str, str]  # of their matrices, as blocks.GATED
    count_key: str  # config.json's key of their number
    width_key: str  # config.json's key of their width


@dataclass(frozen=True)
class Decoder:
    """An architecture built like Llama.

    states_head_dim: whether the metadata always state the head size; False: if config.json does.
    own_fields: further metadata; keys without the architecture's name.
    own_checks: further findings on the config.
    """

    NAME: str  # llama.cpp's name
    default_theta: float = 10_000.0
    default_head_dim: int | None = None  # None: hidden_size / n_heads
    states_head_dim: bool = True
    interleaved: bool = False  # this and the next two: see blocks.attention
    qkv_bias: bool = False
    qk_norm: bool = False
    experts: Experts | None = None
    own_fields: Callable[[Hparams], dict[str, Field]] | None = None
    own_checks: Callable[[Config], Iterator[Finding]] | None = None

    def canonical_name(self, name: str) -> str:
        """The name as it is stored, which is canonical already."""
        return name

    def is_dropped(self, name: str) -> bool:
        """Whether a stored tensor is left out on purpose: RoPE's frequencies in old exports."""
        return name.endswith(".rotary_emb.inv_freq")

    def read_hparams(self, config: Config) -> Hparams:
        """The hyperparameters. A value that every published checkpoint states has no default."""
        n_heads = config.integer("num_attention_heads")
        hidden_size = config.integer("hidden_size")
        rope_type, rope_theta, rope_scaling = read_rope(config, self.default_theta)
        experts = self.experts
        return Hparams(
            n_layers=config.integer("num_hidden_layers"),
            hidden_size=hidden_size,
            n_heads=n_heads,
            n_kv_heads=config.integer("num_key_value_heads", n_heads),
            head_dim=config.integer("head_dim", self.default_head_dim or hidden_size // n_heads),
            vocab_size=config.integer("vocab_size"),
            context_length=config.integer("max_position_embeddings"),
            norm_eps=config.number("rms_norm_eps"),
            hidden_act=config.string("hidden_act", "silu"),
            tie_embeddings=config.flag("tie_word_embeddings", False),
            dense_size=config.integer("intermediate_size"),
            n_experts=config.integer(experts.count_key) if experts else 0,
            n_experts_used=config.integer("num_experts_per_tok") if experts else 0,
            expert_size=config.integer(experts.width_key) if experts else 0,
            rope_type=rope_type,
            rope_theta=rope_theta,
            rope_scaling=rope_scaling,
        )

    def fields(self, config: Config, hparams: Hparams) -> dict[str, Field]:
        """The metadata, in the order of llama.cpp's converter."""
        values = {
            **blocks.shape_fields(hparams),
            **scaling_fields(config),
            "rope.freq_base": f32(hparams.rope_theta),
            "attention.layer_norm_rms_epsilon": f32(hparams.norm_eps),
        }
        if self.experts:
            values["expert_count"] = u32(hparams.n_experts)
            values["expert_used_count"] = u32(hparams.n_experts_used)
        if self.states_head_dim or config.states("head_dim"):
            values["attention.key_length"] = u32(hparams.head_dim)
            values["attention.value_length"] = u32(hparams.head_dim)
        if self.own_fields:
            values |= self.own_fields(hparams)
        return {f"{self.NAME}.{key}": value for key, value in values.items()}

    def tensors(self, hparams: Hparams, source: Source) -> Iterator[OutputTensor]:
        """Yield every tensor of the GGUF. Raises ConvertError on a missing one or a wrong shape."""
        yield from blocks.outer(hparams, source)
        for layer in range(hparams.n_layers):
            yield from self._block(f"model.layers.{layer}.", f"blk.{layer}.", hparams, source)

    def diagnose(self, config: Config, hparams: Hparams) -> Iterator[Finding]:
        """Yield where the config differs from what llama.cpp computes."""
        yield from diagnose_decoder(config, hparams)
        if self.own_checks:
            yield from self.own_checks(config)

    def _block(
        self, stored: str, out: str, hparams: Hparams, source: Source
    ) -> Iterator[OutputTensor]:
        yield from blocks.norms(stored, out, hparams, source)
        yield from blocks.attention(
            f"{stored}self_attn.",
            out,
            hparams,
            source,
            interleaved=self.interleaved,
            qkv_bias=self.qkv_bias,
            qk_norm=self.qk_norm,
        )
        if self.experts is None:
            hidden = hparams.hidden_size
            yield from blocks.mlp(f"{stored}mlp.", out, "", hparams.dense_size, hidden, source)
            return
        prefix = f"{stored}{self.experts.prefix}"
        yield blocks.router(f"{prefix}gate.weight", out, hparams, source)
        yield from blocks.experts(f"{prefix}experts.", out, self.experts.names, hparams, source)
