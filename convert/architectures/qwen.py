"""Qwen2 (and 2.5), Qwen3, and Qwen3-MoE."""

from __future__ import annotations

from collections.abc import Iterator

from convert.architectures.blocks import GATED
from convert.architectures.decoder import Decoder, Experts
from convert.checkpoint.hparams import Config, Hparams
from convert.doctor.checkpoint import error, warn_of_window
from convert.gguf.fields import Field, u32
from convert.types import Finding


def _check_window(config: Config) -> Iterator[Finding]:
    return warn_of_window(config, is_on=config.flag("use_sliding_window", False))


def _check_qwen2(config: Config) -> Iterator[Finding]:
    yield from _check_window(config)
    hidden_size, n_heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    if config.integer("head_dim", hidden_size // n_heads) * n_heads != hidden_size:
        yield error("num_attention_heads x head_dim is not hidden_size; llama.cpp needs them equal")


def _check_experts(config: Config) -> Iterator[Finding]:
    yield from _check_window(config)
    if config.raw("mlp_only_layers") or config.integer("decoder_sparse_step", 1) != 1:
        yield error("some layers have no experts; llama.cpp expects experts in every layer")
    if not config.flag("norm_topk_prob", False):
        yield error("norm_topk_prob is false; llama.cpp makes the experts' weights sum to 1")


def _expert_fields(hparams: Hparams) -> dict[str, Field]:
    return {"expert_feed_forward_length": u32(hparams.expert_size)}


QWEN2 = Decoder("qwen2", states_head_dim=False, qkv_bias=True, own_checks=_check_qwen2)
QWEN3 = Decoder("qwen3", default_head_dim=128, qk_norm=True, own_checks=_check_window)
QWEN3_MOE = Decoder(
    "qwen3moe",
    qk_norm=True,
    experts=Experts(
        prefix="mlp.", names=GATED, count_key="num_experts", width_key="moe_intermediate_size"
    ),
    own_fields=_expert_fields,
    own_checks=_check_experts,
)
