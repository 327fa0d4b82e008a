"""By which recipe the types of a GGUF's tensors were chosen: the one it states, or the nearest."""

from __future__ import annotations

from dataclasses import dataclass

from convert.errors import ConvertError
from convert.gguf.ftypes import FTYPES, FType, find_ftype
from convert.gguf.model import GGUFModel
from convert.recipe.choice import choose_qtypes
from convert.recipe.recipe import Model, file_order


@dataclass(frozen=True)
class Recognized:
    """A file's type. `is_stated`: it says so itself, otherwise it is the one that fits best.

    `others`: the tensors that llama.cpp's recipe would have given another type, and which.
    """

    ftype: str
    is_stated: bool
    others: dict[str, str]


def recognize(model: GGUFModel) -> Recognized:
    """The type of a GGUF, and where its tensors' types are not those of the recipe."""
    stated = model.fields.get("general.file_type")
    for name in FTYPES:
        if find_ftype(name).id == stated:
            return Recognized(name, True, _others(model, find_ftype(name)))
    found = [Recognized(name, False, _others(model, find_ftype(name))) for name in FTYPES]
    return min(found, key=lambda each: len(each.others))


def _others(model: GGUFModel, ftype: FType) -> dict[str, str]:
    """Tensors of another type than the recipe of `ftype` picks, with the one it picks."""
    shapes = {
        name: tensor.shape
        for name, tensor in sorted(model.tensors.items(), key=lambda item: file_order(item[0]))
    }
    has_imatrix = "quantize.imatrix.file" in model.fields
    try:
        picked = choose_qtypes(shapes.items(), ftype, _model(model), has_imatrix=has_imatrix)
    except ConvertError:  # rows that are no whole blocks of it: the recipe has nothing to say
        return dict.fromkeys(shapes, ftype.base)
    return {name: qtype for name, qtype in picked.items() if model.tensors[name].qtype != qtype}


def _model(model: GGUFModel) -> Model:
    """What the recipe asks of a model, as far as the metadata tell."""
    architecture = model.fields.get("general.architecture")

    def count(key: str, default: int) -> int:
        value = model.fields.get(f"{architecture}.{key}")
        return value if type(value) is int and value > 0 else default

    n_heads = count("attention.head_count", 1)
    return Model.of(
        str(architecture),
        n_layers=count("block_count", 1),
        n_heads=n_heads,
        n_kv_heads=count("attention.head_count_kv", n_heads),
        n_experts=count("expert_count", 0),
    )
