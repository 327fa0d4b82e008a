"""Decide a whole conversion from headers: every tensor mapped, typed, and given its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.architectures import Architecture, find_architecture
from convert.checkpoint import Checkpoint, open_checkpoint
from convert.doctor import diagnose_sources
from convert.errors import ConvertError
from convert.fields import Field, TensorInfo, align, encode_header, u32
from convert.hparams import Config, Hparams
from convert.provenance import count_params, general_fields
from convert.qtypes import QTYPES
from convert.recipe import FType, Model, choose_qtypes, file_order, find_ftype
from convert.scheme import DROPPED_SUFFIXES, read_block_size
from convert.source import Source
from convert.tensors import OutputTensor
from convert.types import Finding, Plan, PlannedTensor
from convert.vocab import has_tokenizer, read_vocabulary, vocabulary_fields

_QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION


def make_plan(src: Path, ftype_name: str, *, force: bool = False) -> Plan:
    """The plan for converting `src` to `ftype_name`; see `convert.plan`."""
    ftype = find_ftype(ftype_name)
    if not src.is_dir():
        what = "not a directory" if src.exists() else "no such directory"
        raise ConvertError(f"{src}: {what}; name the directory of a Hugging Face checkpoint")
    config = Config.load(src)
    architecture = find_architecture(config.architecture, config.path)
    hparams = architecture.read_hparams(config)
    checkpoint = open_checkpoint(src)
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
        # llama.cpp's quantizer moves these two to the end; so whole files compare equal.
        "general.quantization_version": u32(_QUANTIZATION_VERSION),
        "general.file_type": u32(ftype.id),
    }
    tensors, n_bytes = _lay_out(outputs, fields, ftype, hparams)
    total, shared, expert, _ = count_params(outputs)
    return Plan(
        source=src,
        ftype=ftype.name,
        architecture=architecture.NAME,
        tensors=tensors,
        n_bytes=n_bytes,
        n_params=total,
        n_params_active=shared + expert * hparams.n_experts_used,
        bits_per_weight=8 * sum(tensor.n_bytes for tensor in tensors) / total,
        findings=findings,
        fields=fields,
    )


def plan_header(plan: Plan) -> bytes:
    """The bytes of the output before its tensor data."""
    return _header(plan.fields, plan.tensors)


def _refuse_errors(path: Path, findings: tuple[Finding, ...]) -> None:
    errors = [finding.message for finding in findings if finding.level == "error"]
    if errors:
        raise ConvertError(f"{path}: {'; '.join(errors)} (--force converts all the same)")


def _outputs(
    architecture: Architecture[Any], config: Config, hparams: Hparams, checkpoint: Checkpoint
) -> list[OutputTensor]:
    """Every output tensor in file order; every stored one mapped or expressly dropped."""
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
    outputs: list[OutputTensor], fields: dict[str, Field], ftype: FType, hparams: Hparams
) -> tuple[tuple[PlannedTensor, ...], int]:
    """The tensors with their types and offsets, and the bytes of the whole file."""
    model = Model(hparams.n_layers, hparams.n_experts, hparams.n_heads // hparams.n_kv_heads)
    qtypes = choose_qtypes(((output.name, output.shape) for output in outputs), ftype, model)
    tensors: list[PlannedTensor] = []
    offset = 0
    for output in outputs:
        qtype = qtypes[output.name]
        n_rows = output.n_params // output.shape[0]
        n_bytes = n_rows * QTYPES[qtype].row_bytes(output.shape[0])
        tensors.append(PlannedTensor(output.name, output.shape, qtype, offset, n_bytes, output))
        offset += align(n_bytes)
    header_bytes = len(_header(fields, tuple(tensors)))
    return tuple(tensors), header_bytes + offset


def _header(fields: Mapping[str, Field], tensors: tuple[PlannedTensor, ...]) -> bytes:
    return encode_header(
        fields,
        (TensorInfo(t.name, t.shape, QTYPES[t.qtype].id, t.offset) for t in tensors),
    )
