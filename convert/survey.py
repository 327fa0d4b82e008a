"""What is read from a source before its weights: the same for a checkpoint and a GGUF."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from convert.checkpoint.tensors import OutputTensor
from convert.errors import ConvertError
from convert.gguf.fields import Field
from convert.recipe.model import Model
from convert.types import Finding


@dataclass(frozen=True)
class Survey:
    """What is read from a source once, for every type.

    source: the directory of a checkpoint, or a GGUF (the first file of a split one).
    n_experts_used: by one token.
    outputs: the tensors to write, in file order.
    fields: the metadata to write, without those that depend on the type.
    """

    source: Path
    model: Model
    n_experts_used: int
    outputs: list[OutputTensor] = field(repr=False)
    fields: dict[str, Field] = field(repr=False)
    findings: tuple[Finding, ...]


def refuse_errors(path: Path, findings: tuple[Finding, ...]) -> None:
    """Raise ConvertError if one of the findings is that the model would run wrong."""
    errors = [finding.message for finding in findings if finding.level == "error"]
    if errors:
        raise ConvertError(f"{path}: {'; '.join(errors)} (--force converts anyway)")
