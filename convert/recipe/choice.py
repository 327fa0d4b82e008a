"""Chooses every output tensor's qtype and importance, from the recipe, overrides and imatrix."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from convert.checkpoint.tensors import OutputTensor
from convert.errors import ConvertError
from convert.gguf.ftypes import FType
from convert.gguf.qtypes import QTYPES
from convert.importance import Importance
from convert.recipe.imatrix import Imatrix, cold_report, read_imatrix
from convert.recipe.kept import is_quantizable
from convert.recipe.model import Model
from convert.recipe.overrides import Overrides, read_overrides
from convert.recipe.recipe import (
    PER_LAYER_EMBD,
    Recipe,
    fit_rows,
    kind_of,
    needs_imatrix,
)
from convert.types import Finding, TypeOptions


@dataclass(frozen=True)
class Wishes:
    """`TypeOptions`, read and checked against the tensors that they are for.

    importances: the imatrix's entry for each quantizable tensor that it has one for.
    cold: the names of the tensors that have cold experts.
    """

    overrides: Overrides
    imatrix: Imatrix | None
    importances: Mapping[str, Importance]
    cold: frozenset[str]


@dataclass(frozen=True)
class Choice:
    """The qtypes and importances of a file. `findings`: warnings about what the imatrix lacks."""

    qtypes: Mapping[str, str]
    importances: Mapping[str, Importance]
    findings: tuple[Finding, ...]


def read_wishes(options: TypeOptions, outputs: Sequence[OutputTensor], model: Model) -> Wishes:
    """Read the imatrix and the overrides. Raises ConvertError if they do not fit the model."""
    overrides = read_overrides(options)
    imatrix = None if options.imatrix is None else read_imatrix(options.imatrix)
    if overrides.cold_experts and (imatrix is None or imatrix.is_legacy):
        raise ConvertError(
            "--cold-experts needs to know how many tokens each expert saw: give an --imatrix in "
            "GGUF format"
        )
    importances = {}
    for output in outputs:
        may_change = is_quantizable(output.name, output.shape, model.architecture)
        if imatrix is not None and may_change:
            importance = imatrix.find(output.name, output.shape)
            if importance is not None:
                importances[output.name] = importance
    cold = frozenset(name for name, each in importances.items() if each.cold_experts())
    return Wishes(overrides, imatrix, importances, cold)


def choose(outputs: Sequence[OutputTensor], ftype: FType, model: Model, wishes: Wishes) -> Choice:
    """The qtypes and importances of `outputs`, which must be in file order.

    Raises ConvertError if a tensor has no importance but its qtype needs one, if an override has no
    effect, or if rows are not whole blocks of their qtype.
    """
    qtypes = choose_by_shape(outputs, ftype, model, wishes, has_imatrix=wishes.imatrix is not None)
    changed = {
        each.name: qtypes[each.name] for each in outputs if each.kept_as != qtypes[each.name]
    }
    missing = lacking_importance(changed, ftype, wishes)
    if missing is not None:
        raise ConvertError(_lacking(missing, qtypes[missing], wishes.imatrix))
    quantized = [name for name, qtype in changed.items() if QTYPES[qtype].is_quantized]
    return Choice(
        qtypes,
        {name: wishes.importances[name] for name in quantized if name in wishes.importances},
        tuple(Finding("warning", line) for line in _guesses(quantized, wishes)),
    )


def choose_by_shape(
    outputs: Sequence[OutputTensor],
    ftype: FType,
    model: Model,
    wishes: Wishes,
    *,
    has_imatrix: bool,
) -> dict[str, str]:
    """The qtypes alone, as if every tensor had the importance that it needs.

    has_imatrix: whether to follow the recipe for files made with an imatrix.

    Raises ConvertError if an override has no effect, or if rows are not whole blocks.
    """
    shapes = {output.name: output.shape for output in outputs}
    quantizable = [
        name for name, shape in shapes.items() if is_quantizable(name, shape, model.architecture)
    ]
    wishes.overrides.refuse_idle(ftype, quantizable)
    qtypes = choose_qtypes(
        shapes.items(),
        ftype,
        model,
        wishes.overrides,
        has_imatrix=has_imatrix,
        cold=wishes.cold,
        kept={output.name: output.kept_as for output in outputs},
    )
    for name, qtype in qtypes.items():
        if shapes[name][0] % QTYPES[qtype].block:
            raise ConvertError(
                f"{name}: rows of {shapes[name][0]} are not whole blocks of {qtype}; "
                "ask for another type for it"
            )
    return qtypes


def choose_qtypes(
    tensors: Iterable[tuple[str, tuple[int, ...]]],
    ftype: FType,
    model: Model,
    overrides: Overrides | None = None,
    *,
    has_imatrix: bool = False,
    cold: Collection[str] = (),
    kept: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The qtype of every tensor.

    tensors: (GGUF name, shape in ne order) of each, in file order.
    cold: the names of the tensors that get at least the type `overrides.cold_experts`.
    kept: the qtypes of tensors where they are not quantized; F32 for those that are not in it.

    Raises ConvertError if rows are not whole blocks of a type that has no fallback.
    """
    shapes = dict(tensors)
    recipe = Recipe(ftype, model, shapes, has_imatrix)
    overrides = overrides or Overrides()
    return {
        name: _choose(name, shape, ftype, recipe, overrides, name in cold)
        if is_quantizable(name, shape, model.architecture)
        else (kept or {}).get(name, "F32")
        for name, shape in shapes.items()
    }


def _choose(
    name: str,
    shape: tuple[int, ...],
    ftype: FType,
    recipe: Recipe,
    overrides: Overrides,
    is_cold: bool,
) -> str:
    """The user's override decides first, then the recipe; then the row length may force another."""
    kind = kind_of(name)
    is_named = name == PER_LAYER_EMBD and overrides.find(name) is not None
    if kind == "token_embd" and overrides.token_embedding and not is_named:
        return overrides.token_embedding
    if kind == "output" and overrides.output:
        return overrides.output
    if not QTYPES[ftype.base].is_quantized:
        return ftype.base
    qtype = overrides.find(name)
    if qtype is None:
        if overrides.is_pure:
            qtype = ftype.base
        elif overrides.output and recipe.is_output(kind):
            qtype = overrides.output
        else:
            qtype = recipe.choose(name, shape)
        if is_cold and overrides.cold_experts:
            qtype = max(qtype, overrides.cold_experts, key=lambda each: QTYPES[each].bits)
    return fit_rows(name, qtype, shape[0])


def lacking_importance(qtypes: Mapping[str, str], ftype: FType, wishes: Wishes) -> str | None:
    """The first tensor that has no importance but whose qtype needs one; None if there is none."""
    for name, qtype in qtypes.items():
        if name not in wishes.importances and needs_imatrix(name, qtype, ftype):
            return name
    return None


def _lacking(name: str, qtype: str, imatrix: Imatrix | None) -> str:
    if imatrix is None:
        return (
            f"{name} becomes {qtype}, which needs an importance matrix; give one with --imatrix, "
            "or choose a type that needs none, such as Q2_K"
        )
    return (
        f"{imatrix.path}: has no data on {name}, which {qtype} needs; give the tensor another type "
        "with --tensor-type, or make an imatrix on more text"
    )


def _guesses(quantized: Sequence[str], wishes: Wishes) -> Iterator[str]:
    imatrix = wishes.imatrix
    if imatrix is None:
        return
    unknown = [name for name in quantized if not _is_known(wishes.importances.get(name))]
    unknown = [name for name in unknown if name not in ("token_embd.weight", "output.weight")]
    if unknown:
        names = f"{unknown[0]} and {len(unknown) - 1} more" if len(unknown) > 1 else unknown[0]
        yield f"{imatrix.path}: has no data on {names}; all their columns count the same"
    cold = [name for name in quantized if name in wishes.cold]
    yield from cold_report(imatrix, cold, wishes.overrides.cold_experts)


def _is_known(importance: Importance | None) -> bool:
    return importance is not None and any(importance.counts)
