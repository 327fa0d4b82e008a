"""Derives a GGUF's metadata and tensors from config.json alone, without a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convert.architectures import find_architecture
from convert.checkpoint.checkpoint import StoredTensor
from convert.checkpoint.hparams import Config
from convert.checkpoint.source import Source
from convert.checkpoint.tensors import OutputTensor
from convert.checkpoint_survey import quantizer_model
from convert.gguf.fields import Field
from convert.gguf.file import GGUFTensor
from convert.gguf.ftypes import find_ftype
from convert.recipe.choice import choose_by_shape, lacking_importance, read_wishes
from convert.recipe.model import Model
from convert.recipe.recipe import file_order
from convert.types import TypeOptions


@dataclass(frozen=True)
class Outline:
    """A model without weights: its metadata, and which tensors it has."""

    architecture: str  # llama.cpp's name
    fields: Mapping[str, Field]
    outputs: tuple[OutputTensor, ...] = field(repr=False)
    model: Model

    def types(self, ftype: str) -> dict[str, GGUFTensor]:
        """Every tensor as a file of type `ftype` holds it; all offsets are 0. Raises ConvertError.

        If the type needs an importance matrix, the result is for a file made with one.
        """
        found = find_ftype(ftype)
        wishes = read_wishes(TypeOptions(), self.outputs, self.model)
        outputs = list(self.outputs)
        qtypes = choose_by_shape(outputs, found, self.model, wishes, has_imatrix=False)
        if lacking_importance(qtypes, found, wishes) is not None:
            qtypes = choose_by_shape(outputs, found, self.model, wishes, has_imatrix=True)
        return {each.name: GGUFTensor(each.shape, qtypes[each.name], 0) for each in outputs}


def outline(config: Mapping[str, Any], where: str) -> Outline:
    """The outline of the model that the values of a config.json describe.

    where: the file's name for error messages.

    Raises ConvertError if a value is missing or makes no sense.
    """
    values = Config(Path(where), dict(config))
    architecture = find_architecture(values.architecture, values.path)
    hparams = architecture.read_hparams(values)
    source = Source(values.path, _Anything(without_output=hparams.tie_embeddings), None)
    outputs = sorted(architecture.tensors(hparams, source), key=lambda each: file_order(each.name))
    return Outline(
        architecture.NAME,
        architecture.fields(values, hparams),
        tuple(outputs),
        quantizer_model(architecture.NAME, hparams),
    )


class _Anything(Mapping[str, StoredTensor]):
    """A checkpoint that has every tensor, in any shape; used when there is only a config.json."""

    def __init__(self, *, without_output: bool) -> None:
        self._without_output = without_output

    def __getitem__(self, name: str) -> StoredTensor:
        if name not in self:
            raise KeyError(name)
        return StoredTensor(name, "BF16", (), Path(), 0, is_absent=True)

    def __contains__(self, name: object) -> bool:
        return not (self._without_output and str(name).startswith("lm_head."))

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0
