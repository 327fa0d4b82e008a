"""Reads how an embedding model makes one vector of a text, as sentence-transformers stores it.

`modules.json` lists the steps after the transformer; the folder of the step "Pooling" says how the
vectors of all tokens become one. Source: llama.cpp ``conversion/base.py`` (_try_set_pooling_type).
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.errors import ConvertError
from convert.gguf.fields import Field, u32
from convert.names import is_path_inside
from convert.reading import is_there, read_json, read_json_list

# llama.cpp's numbers (enum llama_pooling_type of llama.h), by sentence-transformers' names.
_NUMBERS = {"mean": 1, "cls": 2, "lasttoken": 3}
_FLAGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
}
# Steps that are no part of the GGUF, but change nothing that is lost: a normalized vector points
# the same way, and whoever computes embeddings normalizes them.
_HARMLESS = ("Transformer", "Normalize")


def pooling_fields(src: Path, architecture: str) -> dict[str, Field]:
    """The pooling of the checkpoint in `src` as metadata; empty if it states none.

    architecture: llama.cpp's name.

    Raises ConvertError if its steps cannot be carried over: the embeddings would be others.
    """
    path = src / "modules.json"
    if not is_there(path):
        return {}
    number = None
    for module in read_json_list(path):
        kind, folder = _step(path, module)
        if kind == "Pooling":
            number = _number(src / folder / "config.json")
        elif kind not in _HARMLESS:
            raise ConvertError(
                f"{path}: has the step {reprlib.repr(kind)} after the transformer, which llama.cpp "
                "leaves out; the embeddings would be others"
            )
    return {} if number is None else {f"{architecture}.pooling_type": u32(number)}


def _step(path: Path, module: Any) -> tuple[str, str]:
    """The name of a step's class, and its folder below the checkpoint."""
    kind = module.get("type") if isinstance(module, Mapping) else None
    folder = module.get("path") if isinstance(module, Mapping) else None
    if not isinstance(kind, str) or not (folder == "" or is_path_inside(folder)):
        raise ConvertError(
            f"{path}: has the step {reprlib.repr(module)}, not a type and a path; fetch it again"
        )
    return kind.rpartition(".")[2], str(folder)


def _number(path: Path) -> int:
    """llama.cpp's number of the pooling that the config of the step asks for."""
    config = read_json(path)
    modes = [mode for flag, mode in _FLAGS.items() if config.get(flag)]
    others = [
        key.removeprefix("pooling_mode_")
        for key, value in config.items()
        if key.startswith("pooling_mode_") and key not in _FLAGS and value
    ]
    stated = config.get("pooling_mode")
    if not modes and not others and stated is not None:
        is_known = isinstance(stated, str) and stated in _NUMBERS
        modes, others = ([stated], []) if is_known else ([], [reprlib.repr(stated)])
    if len(modes) == 1 and not others:
        return _NUMBERS[modes[0]]
    asked = ", ".join([*modes, *others]) or "none"
    raise ConvertError(
        f"{path}: asks for the pooling {asked}; llama.cpp has one of mean, cls and lasttoken"
    )
