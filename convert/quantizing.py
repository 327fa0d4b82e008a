"""Plans the quantization of a GGUF, and decides what may be quantized a second time.

Every quantization rounds. A second one rounds what is rounded already, so the result is worse than
one made from the original. From Q8_0 that hardly shows, and it is allowed with a warning. Lower
types have lost more, and another type of the same size or larger brings nothing back: that is
refused unless the caller insists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from convert.errors import ConvertError
from convert.gguf.ftypes import FType
from convert.gguf.qtypes import QTYPES
from convert.gguf_survey import survey_gguf
from convert.planning import make_plans
from convert.types import Finding, Plan, PlannedTensor, TypeOptions

_LEAST_BITS = 8  # of a quantized source that may be quantized again


def quantize_plans(
    path: Path,
    ftypes: Iterable[FType],
    options: TypeOptions,
    *,
    requantize: bool,
    force: bool,
) -> tuple[Plan, ...]:
    """The plans for quantizing the GGUF `path`; see `convert.plan_quantize`."""
    plans = make_plans(survey_gguf(path, force=force), ftypes, options)
    for plan in plans:
        _refuse_idle(plan)
        if not requantize:
            _refuse_second(plan)
    return tuple(replace(plan, findings=(*plan.findings, *_warnings(plan))) for plan in plans)


def _refuse_idle(plan: Plan) -> None:
    """Raise ConvertError if every tensor has its type already."""
    if all(tensor.qtype == tensor.output.kept_as for tensor in plan.tensors):
        raise ConvertError(
            f"{plan.source}: is {plan.ftype} already, so there is nothing to be done; choose "
            "another --type"
        )


def _refuse_second(plan: Plan) -> None:
    """Raise ConvertError if tensors of less than 8 bits would be quantized again."""
    lossy = [each for each in _quantized_again(plan) if _bits(each) < _LEAST_BITS]
    if lossy:
        raise ConvertError(
            f"{plan.source}: {_named(lossy)} quantized already: a second time loses more, and no "
            "type brings back what is lost; start from the F16, BF16 or Q8_0 file of the model, or "
            "insist with --requantize"
        )


def _warnings(plan: Plan) -> Iterator[Finding]:
    again = list(_quantized_again(plan))
    if again:
        much = "a little " if min(map(_bits, again)) >= _LEAST_BITS else ""
        yield Finding(
            "warning",
            f"{_named(again)} quantized already: the result is {much}worse than one made from F16 "
            "or BF16",
        )


def _quantized_again(plan: Plan) -> Iterator[PlannedTensor]:
    for tensor in plan.tensors:
        if QTYPES[tensor.output.kept_as].is_quantized and tensor.qtype != tensor.output.kept_as:
            yield tensor


def _bits(tensor: PlannedTensor) -> float:
    return QTYPES[tensor.output.kept_as].bits


def _named(tensors: list[PlannedTensor]) -> str:
    """The first of the tensors with the fewest bits, and how many more there are."""
    first = min(tensors, key=_bits)
    n_more = len(tensors) - 1
    if not n_more:
        return f"{first.name} ({first.output.kept_as}) is"
    return f"{first.name} ({first.output.kept_as}) and {n_more} more tensors are"
