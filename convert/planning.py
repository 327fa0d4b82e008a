"""Plans a whole conversion from headers: each tensor's source, qtype, and offset in the output."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convert.architectures import Architecture, find_architecture
from convert.checkpoint.checkpoint import Checkpoint, open_checkpoint
from convert.checkpoint.foreign import refuse_other_sources
from convert.checkpoint.hparams import Config, Hparams
from convert.checkpoint.provenance import count_params, general_fields
from convert.checkpoint.scheme import DROPPED_SUFFIXES, read_block_size
from convert.checkpoint.shards import ShardStore
from convert.checkpoint.source import Source
from convert.checkpoint.tensors import OutputTensor
from convert.doctor.checkpoint import diagnose_sources
from convert.errors import ConvertError
from convert.gguf.fields import Field, align, u32
from convert.gguf.ftypes import FTYPES, FType, find_ftype
from convert.gguf.qtypes import QTYPES
from convert.recipe.choice import (
    Choice,
    Wishes,
    choose,
    choose_by_shape,
    lacking_importance,
    read_wishes,
)
from convert.recipe.recipe import Model, file_order
from convert.tokenizer.vocab import has_tokenizer, read_vocabulary, vocabulary_fields
from convert.types import Finding, Plan, PlannedTensor, TypeOptions, TypeSize
from convert.writing.layout import encode_tensors

_QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION


@dataclass(frozen=True)
class Survey:
    """What is read from a checkpoint once, for every type; `outputs` are in file order."""

    architecture: Architecture[Any]
    hparams: Hparams
    outputs: list[OutputTensor]
    fields: dict[str, Field]
    findings: tuple[Finding, ...]

    def model(self) -> Model:
        return quantizer_model(self.architecture.NAME, self.hparams)


def quantizer_model(architecture: str, hparams: Hparams) -> Model:
    """What the recipe needs to know of a model; `architecture` is llama.cpp's name."""
    return Model.of(
        architecture,
        n_layers=hparams.n_layers,
        n_heads=hparams.n_heads,
        n_kv_heads=hparams.n_kv_heads,
        n_experts=hparams.n_experts,
    )


def make_plans(
    src: Path,
    ftype_names: Iterable[str],
    options: TypeOptions,
    *,
    force: bool = False,
    shards: ShardStore | None = None,
) -> tuple[Plan, ...]:
    """The plans for converting `src` to each type; see `convert.plan_all`."""
    ftypes = [find_ftype(name) for name in ftype_names]
    survey = take_survey(src, shards, force=force)
    wishes = read_wishes(options, survey.outputs)
    plans = (_plan(src, survey, ftype, wishes) for ftype in ftypes)
    return tuple(replace(plan, shards=shards) for plan in plans)


def _plan(src: Path, survey: Survey, ftype: FType, wishes: Wishes) -> Plan:
    choice = choose(survey.outputs, ftype, survey.model(), wishes)
    fields = _fields(survey, ftype, wishes)
    tensors, n_bytes = _lay_out(survey.outputs, fields, choice)
    total, shared, expert, _ = count_params(survey.outputs)
    return Plan(
        source=src,
        ftype=ftype.name,
        architecture=survey.architecture.NAME,
        tensors=tensors,
        n_bytes=n_bytes,
        n_params=total,
        n_params_active=shared + expert * survey.hparams.n_experts_used,
        bits_per_weight=8 * sum(tensor.n_bytes for tensor in tensors) / total,
        findings=(*survey.findings, *choice.findings),
        fields=fields,
    )


def list_sizes(
    src: Path, options: TypeOptions, shards: ShardStore | None = None
) -> tuple[TypeSize, ...]:
    """The size of the file that each ftype would make of `src`; see `convert.sizes`."""
    survey = take_survey(src, shards, force=True)
    wishes = read_wishes(options, survey.outputs)
    model, fields = survey.model(), _fields(survey, find_ftype("F32"), wishes)
    any_types = Choice(dict.fromkeys((each.name for each in survey.outputs), "F32"), {}, ())
    header_bytes = len(encode_tensors(fields, _lay_out(survey.outputs, fields, any_types)[0]))
    return tuple(
        _size(survey.outputs, find_ftype(name), model, wishes, header_bytes) for name in FTYPES
    )


def _size(
    outputs: list[OutputTensor], ftype: FType, model: Model, wishes: Wishes, header_bytes: int
) -> TypeSize:
    has_imatrix = wishes.imatrix is not None
    try:
        qtypes = choose_by_shape(outputs, ftype, model, wishes, has_imatrix=has_imatrix)
    except ConvertError as error:
        return TypeSize(ftype.name, None, None, False, str(error))
    lacks_imatrix = lacking_importance(qtypes, ftype, wishes) is not None
    if lacks_imatrix:  # the recipe chooses other types with an imatrix
        qtypes = choose_by_shape(outputs, ftype, model, wishes, has_imatrix=True)
    sizes = [_n_bytes(output, qtypes[output.name]) for output in outputs]
    total = sum(output.n_params for output in outputs)
    n_bytes, bits = header_bytes + sum(map(align, sizes)), 8 * sum(sizes)
    return TypeSize(ftype.name, n_bytes, bits / total, lacks_imatrix, None)


def _refuse_errors(path: Path, findings: tuple[Finding, ...]) -> None:
    errors = [finding.message for finding in findings if finding.level == "error"]
    if errors:
        raise ConvertError(f"{path}: {'; '.join(errors)} (--force converts anyway)")


def take_survey(src: Path, shards: ShardStore | None, *, force: bool) -> Survey:
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
        _refuse_errors(config.path, findings)
    outputs = _outputs(architecture, config, hparams, checkpoint)
    fields = {
        **general_fields(src, architecture.NAME, outputs),
        **architecture.fields(config, hparams),
        **(vocabulary_fields(vocab) if vocab else {}),
    }
    return Survey(architecture, hparams, outputs, fields, findings)


def _fields(survey: Survey, ftype: FType, wishes: Wishes) -> dict[str, Field]:
    return {
        **survey.fields,
        # llama.cpp's quantizer moves these two to the end. Doing the same makes whole files equal.
        "general.quantization_version": u32(_QUANTIZATION_VERSION),
        "general.file_type": u32(ftype.id),
        **(wishes.imatrix.fields() if wishes.imatrix else {}),
    }


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


def _lay_out(
    outputs: list[OutputTensor], fields: dict[str, Field], choice: Choice
) -> tuple[tuple[PlannedTensor, ...], int]:
    """The tensors with their types and offsets, and the size of the whole file in bytes."""
    tensors: list[PlannedTensor] = []
    offset = 0
    for output in outputs:
        name, qtype = output.name, choice.qtypes[output.name]
        n_bytes = _n_bytes(output, qtype)
        importance = choice.importances.get(name)
        tensors.append(
            PlannedTensor(name, output.shape, qtype, offset, n_bytes, output, importance)
        )
        offset += align(n_bytes)
    header_bytes = len(encode_tensors(fields, tuple(tensors)))
    return tuple(tensors), header_bytes + offset


def _n_bytes(output: OutputTensor, qtype: str) -> int:
    n_cols = output.shape[0]
    return output.n_params // n_cols * QTYPES[qtype].row_bytes(n_cols)
