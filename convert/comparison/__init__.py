"""Finds what is broken in a GGUF by comparing it with another GGUF of the same model.

metadata.py   the fields that decide how the model runs
rows.py       rows of matrices, read and dequantized, a part of them in large models
tensors.py    how far each matrix is from the reference's, and whether its types explain that
causes.py     what a matrix that is too far off may be: zero, another expert's, another layer's
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from convert.comparison.metadata import field_oddities
from convert.comparison.tensors import tensor_oddities
from convert.gguf.model import read_model
from convert.types import Oddity, Progress


def find(
    path: Path,
    base: Path,
    *,
    most_weights: int,
    threads: int | None,
    progress: Callable[[Progress], None] | None,
) -> tuple[Oddity, ...]:
    """See `convert.find_oddities`."""
    ours, theirs = read_model(path), read_model(base)
    found = list(field_oddities(ours.fields, theirs.fields))
    if any(one.name == "general.architecture" for one in found):
        return tuple(found)  # nothing else can be compared
    found += tensor_oddities(ours, theirs, most_weights, threads, progress)
    return tuple(found)
