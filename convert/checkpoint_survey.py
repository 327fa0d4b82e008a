"""Surveys a checkpoint: reads config, tokenizer and headers, and finds each output's source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.architectures import Architecture, find_architecture
from convert.checkpoint.checkpoint import Checkpoint, open_checkpoint
from convert.checkpoint.foreign import refuse_other_sources
from convert.checkpoint.hparams import Config, Hparams
from convert.checkpoint.pooling import pooling_fields
from convert.checkpoint.provenance import general_fields
from convert.checkpoint.scheme import DROPPED_SUFFIXES, read_block_size
from convert.checkpoint.shards import ShardStore
from convert.checkpoint.source import Source
from convert.checkpoint.tensors import OutputTensor
from convert.doctor.checkpoint import diagnose_sources
from convert.errors import ConvertError
from convert.recipe.model import Model
from convert.recipe.recipe import file_order
from convert.survey import Survey, refuse_errors
from convert.tokenizer.vocab import has_tokenizer, read_vocabulary, vocabulary_fields


@dataclass(frozen=True)
class CheckpointSurvey(Survey):
    """The survey of a checkpoint, with the values of its config.json."""

    hparams: Hparams


def quantizer_model(architecture: str, hparams: Hparams) -> Model:
    """What the recipe needs to know of a model; `architecture` is llama.cpp's name."""
    return Model.of(
        architecture,
        n_layers=hparams.n_layers,
        n_heads=hparams.n_heads,
        n_kv_heads=hparams.n_kv_heads,
        n_experts=hparams.n_experts,
    )


def take_survey(src: Path, shards: ShardStore | None, *, force: bool) -> CheckpointSurvey:
    """Read all of `src` except the weights.

    shards: where the shards come from; None: from `src`.
    force: do not raise on findings of level "error".

    Raises ConvertError.
    """
    refuse_other_sources(src)
    config = Config.load(src)
    architecture = find_architecture(config.architecture, config.path)
    hparams = architecture.read_hparams(config)
    checkpoint = open_checkpoint(src, shards)
    vocab = None
    if has_tokenizer(src) or not checkpoint.is_outline:
        vocab = read_vocabulary(src, hparams.vocab_size, config.text().values)
    findings = (
        *architecture.diagnose(config, hparams),
        *diagnose_sources(checkpoint, vocab),
    )
    if not force:
        refuse_errors(config.path, findings)
    outputs = _outputs(architecture, config, hparams, checkpoint)
    fields = {
        **general_fields(src, architecture.NAME, outputs),
        **architecture.fields(config, hparams),
        **pooling_fields(src, architecture.NAME),
        **(vocabulary_fields(vocab) if vocab else {}),
    }
    return CheckpointSurvey(
        source=src,
        model=quantizer_model(architecture.NAME, hparams),
        n_experts_used=hparams.n_experts_used,
        outputs=outputs,
        fields=fields,
        findings=findings,
        hparams=hparams,
    )


def _outputs(
    architecture: Architecture[Any], config: Config, hparams: Hparams, checkpoint: Checkpoint
) -> list[OutputTensor]:
    """Every output tensor in file order.

    Raises ConvertError if a stored tensor is neither used nor dropped on purpose.
    """
    kept = {
        architecture.canonical_name(name): stored
        for name, stored in checkpoint.tensors.items()
        if not architecture.is_dropped(name) and not name.endswith(DROPPED_SUFFIXES)
    }
    source = Source(checkpoint.path, kept, read_block_size(config))
    outputs = list(architecture.tensors(hparams, source))
    for stored in source.untaken():
        raise ConvertError(
            f"{stored.path}: unknown tensor {stored.name} {list(stored.shape)}; "
            f"{architecture.NAME} in llama.cpp has no place for it"
        )
    return sorted(outputs, key=lambda tensor: file_order(tensor.name))
