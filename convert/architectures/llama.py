"""Llama 1 to 3, and the models that llama.cpp runs as Llama: Mistral and Mixtral."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from convert.architectures.decoder import Decoder, Experts
from convert.checkpoint.hparams import Config, Hparams
from convert.doctor.checkpoint import warn_of_window
from convert.gguf.fields import Field, u32
from convert.types import Finding


def _own_fields(hparams: Hparams) -> dict[str, Field]:
    return {
        "vocab_size": u32(hparams.vocab_size),
        "rope.dimension_count": u32(hparams.head_dim),
    }


def _check_window(config: Config) -> Iterator[Finding]:
    # The first Mistral has a sliding window of 4096 tokens; llama.cpp does not apply it.
    return warn_of_window(config, is_on=True)


LLAMA = Decoder("llama", interleaved=True, own_fields=_own_fields)
MISTRAL = replace(LLAMA, own_checks=_check_window)
MIXTRAL = replace(
    MISTRAL,
    default_theta=1_000_000.0,
    states_head_dim=False,
    experts=Experts(
        prefix="block_sparse_moe.",
        names={"gate": "w1", "up": "w3", "down": "w2"},
        count_key="num_local_experts",
        width_key="intermediate_size",
    ),
)
