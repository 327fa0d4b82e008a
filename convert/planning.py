"""Plans a whole conversion from headers: each tensor's source, qtype, and offset in the output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from convert.checkpoint.shards import ShardStore
from convert.checkpoint.tensors import OutputTensor
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
from convert.recipe.model import Model
from convert.survey import Survey
from convert.types import Plan, PlannedTensor, TypeOptions, TypeSize
from convert.writing.layout import encode_tensors

_QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION


def make_plans(
    survey: Survey,
    ftypes: Iterable[FType],
    options: TypeOptions,
    shards: ShardStore | None = None,
) -> tuple[Plan, ...]:
    """The plans for converting what was surveyed to each type; see `convert.plan_all`."""
    wishes = read_wishes(options, survey.outputs, survey.model)
    return tuple(_plan(survey, ftype, wishes, shards) for ftype in ftypes)


def _plan(survey: Survey, ftype: FType, wishes: Wishes, shards: ShardStore | None) -> Plan:
    choice = choose(survey.outputs, ftype, survey.model, wishes)
    fields = _fields(survey, ftype, wishes)
    tensors, n_bytes = _lay_out(survey.outputs, fields, choice)
    total = sum(output.n_params for output in survey.outputs)
    return Plan(
        source=survey.source,
        ftype=ftype.name,
        architecture=survey.model.architecture,
        tensors=tensors,
        n_bytes=n_bytes,
        n_params=total,
        n_params_active=total - _n_idle(survey),
        bits_per_weight=8 * sum(tensor.n_bytes for tensor in tensors) / total,
        findings=(*survey.findings, *choice.findings),
        fields=fields,
        shards=shards,
    )


def _n_idle(survey: Survey) -> int:
    """The weights that one token does not pass through: those of the experts it does not use."""
    n_experts = survey.model.n_experts
    if not n_experts:
        return 0
    routed = sum(output.n_params for output in survey.outputs if "_exps." in output.name)
    return routed - routed * min(survey.n_experts_used, n_experts) // n_experts


def list_sizes(survey: Survey, options: TypeOptions) -> tuple[TypeSize, ...]:
    """The size of the file that each ftype would make of it; see `convert.sizes`."""
    wishes = read_wishes(options, survey.outputs, survey.model)
    fields = _fields(survey, find_ftype("F32"), wishes)
    any_types = Choice(dict.fromkeys((each.name for each in survey.outputs), "F32"), {}, ())
    header_bytes = len(encode_tensors(fields, _lay_out(survey.outputs, fields, any_types)[0]))
    return tuple(
        _size(survey.outputs, find_ftype(name), survey.model, wishes, header_bytes)
        for name in FTYPES
    )


def _size(
    outputs: Sequence[OutputTensor], ftype: FType, model: Model, wishes: Wishes, header_bytes: int
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


def _fields(survey: Survey, ftype: FType, wishes: Wishes) -> dict[str, Field]:
    of_type = {
        "general.quantization_version": u32(_QUANTIZATION_VERSION),
        "general.file_type": u32(ftype.id),
        **(wishes.imatrix.fields() if wishes.imatrix else {}),
    }
    # llama.cpp's quantizer moves these to the end. Doing the same makes whole files equal.
    carried = {key: field for key, field in survey.fields.items() if key not in of_type}
    return {**carried, **of_type}


def _lay_out(
    outputs: Sequence[OutputTensor], fields: dict[str, Field], choice: Choice
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
