"""Finds the ftype of a GGUF: the one it states, or the one whose recipe fits its tensors best."""

from __future__ import annotations

from dataclasses import dataclass

from convert.errors import ConvertError
from convert.gguf.ftypes import FTYPES, FType, find_ftype
from convert.gguf.model import GGUFModel
from convert.recipe.choice import choose_qtypes
from convert.recipe.model import Model
from convert.recipe.recipe import file_order


@dataclass(frozen=True)
class Recognized:
    """A file's ftype.

    is_stated: whether the file states it; False: it is the one that fits best.
    others: the tensors that have another qtype than the recipe chooses, with the recipe's qtype.
    """

    ftype: str
    is_stated: bool
    others: dict[str, str]


def recognize(model: GGUFModel) -> Recognized:
    """The ftype of a GGUF, and which tensors' qtypes differ from its recipe."""
    stated = model.fields.get("general.file_type")
    for name in FTYPES:
        if find_ftype(name).id == stated:
            return Recognized(name, True, _others(model, find_ftype(name)))
    found = [Recognized(name, False, _others(model, find_ftype(name))) for name in FTYPES]
    return min(found, key=lambda each: len(each.others))


def _others(model: GGUFModel, ftype: FType) -> dict[str, str]:
    """The tensors whose qtype is not the one the recipe of `ftype` chooses, with the latter."""
    shapes = {
        name: tensor.shape
        for name, tensor in sorted(model.tensors.items(), key=lambda item: file_order(item[0]))
    }
    has_imatrix = "quantize.imatrix.file" in model.fields
    try:
        picked = choose_qtypes(
            shapes.items(),
            ftype,
            Model.of_gguf(model.fields),
            has_imatrix=has_imatrix,
            kept={name: tensor.qtype for name, tensor in model.tensors.items()},
        )
    except ConvertError:  # rows are not whole blocks of the ftype's base, so it fits no tensor
        return dict.fromkeys(shapes, ftype.base)
    return {name: qtype for name, qtype in picked.items() if model.tensors[name].qtype != qtype}
