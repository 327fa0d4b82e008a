"""Surveys a GGUF that is to be quantized: its tensors as they are, and its metadata.

The recipe goes by the tensors' names and a few counts of the metadata, as llama.cpp's does, so any
architecture can be quantized.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

from convert.checkpoint.checkpoint import StoredTensor
from convert.checkpoint.tensors import OutputTensor, View
from convert.doctor.gguf import diagnose_gguf
from convert.errors import ConvertError
from convert.gguf.array import GGUFArray
from convert.gguf.fields import ALIGNMENT, Field, stored, string
from convert.gguf.figures import PREFIX
from convert.gguf.file import GGUFTensor
from convert.gguf.kind import other_purpose, refuse_other_purposes
from convert.gguf.model import GGUFModel, read_model
from convert.gguf.vetting import vet_loading
from convert.recipe.model import Model
from convert.recipe.recipe import file_order
from convert.survey import Survey, refuse_errors
from convert.types import Finding
from convert.versions import version_of

# They say how the input is split; the output says it for itself.
_SPLIT_KEYS = ("split.no", "split.count", "split.tensors.count")


def survey_gguf(path: Path, *, force: bool) -> Survey:
    """Read the header of the GGUF `path`, and of its other split files.

    force: do not raise on findings of level "error".

    Raises ConvertError; in any case if it neither writes text nor makes embeddings.
    """
    model = read_model(path)
    refuse_other_purposes(path, model.fields, model.tensors, embedders=True)
    if not model.tensors:
        raise ConvertError(f"{path}: has no tensors, so it is not a model; give a whole .gguf file")
    findings = tuple(_findings(path, model))
    if not force:
        refuse_errors(path, findings)
    names = sorted(model.tensors, key=file_order)
    return Survey(
        source=path,
        model=Model.of_gguf(model.fields),
        n_experts_used=_n_experts_used(model),
        outputs=[_output(name, model.tensors[name]) for name in names],
        fields=_fields(model),
        findings=findings,
    )


def _findings(path: Path, model: GGUFModel) -> Iterator[Finding]:
    """What is wrong with the model, as `l4 info` finds it."""
    try:
        vet_loading(path, model, embedders=True)
    except ConvertError as error:
        yield Finding("error", str(error).removeprefix(f"{path}: "))
        return
    if other_purpose(model.fields, model.tensors) is None:
        yield from diagnose_gguf(model)


def _output(name: str, tensor: GGUFTensor) -> OutputTensor:
    """The tensor with a view of each of its matrices, and without dimensions of 1 at the end."""
    shape = tensor.shape
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    n_cols, n_rows, n_matrices = shape[0], prod(shape[1:2]), prod(shape[2:])
    source = StoredTensor(name, tensor.qtype, shape[::-1], tensor.path, tensor.offset)
    views = tuple(
        View(source, n_rows, n_cols, matrix * n_rows * n_cols, n_cols, 1)
        for matrix in range(n_matrices)
    )
    return OutputTensor(name, shape, views, kept_as=tensor.qtype)


def _fields(model: GGUFModel) -> dict[str, Field]:
    """The metadata as they are stored, but for what depends on the file, and l4's version."""
    dropped = set(_SPLIT_KEYS)
    if model.fields.get("general.alignment") != ALIGNMENT:
        dropped.add("general.alignment")
    fields = {
        key: stored(value, model.kinds[key])
        for key, value in model.fields.items()
        if key not in dropped and not key.startswith(PREFIX)  # figures of the input
    }
    return {**fields, "l4.version": string(version_of("l4"))}


def _n_experts_used(model: GGUFModel) -> int:
    value = model.fields.get(f"{model.fields.get('general.architecture')}.expert_used_count")
    if isinstance(value, GGUFArray):
        value = max(value, default=0)
    return value if type(value) is int else 0
