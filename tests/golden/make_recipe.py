"""Make recipe.json: the qtype llama.cpp's own quantizer picks for every tensor of real shapes.

    python tests/golden/make_recipe.py

A checkpoint of Scout's or Maverick's shapes is planned from headers over sparse files, its F32 GGUF
is likewise a header over a hole, and `llama_model_quantize` is asked for a dry run on it, without
an importance matrix and with one. The answers are stored by kind of tensor, layers run-length
encoded: "Q6_K*6 Q4_K*2 ...". Under "imatrix" stands only what an importance matrix changes.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from itertools import groupby
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

import checkpoints  # noqa: E402
from quantizer import picked_types, write_hollow_gguf  # noqa: E402

import convert  # noqa: E402

Recipe = dict[str, dict[str, str]]


def main() -> None:
    recipes: dict[str, dict[str, Recipe]] = {}
    for name, (kind, shapes) in checkpoints.RECIPE_MODELS.items():
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "model"
            checkpoint = checkpoints.write_hollow_checkpoint(path, kind=kind, shapes=shapes)
            gguf = write_hollow_gguf(path.with_suffix(".gguf"), checkpoint)
            recipes[name] = {"plain": recipe(gguf, False), "imatrix": recipe(gguf, True)}
        plain, informed = recipes[name].values()
        for ftype, kinds in list(informed.items()):
            informed[ftype] = {k: v for k, v in kinds.items() if v != plain[ftype][k]}
            if not informed[ftype]:
                del informed[ftype]
    (HERE / "recipe.json").write_text(json.dumps(recipes, indent=1) + "\n")


def recipe(gguf: Path, has_imatrix: bool) -> Recipe:
    return {
        ftype: by_kind(picked_types(gguf, ftype, has_imatrix=has_imatrix))
        for ftype in convert.FTYPES
    }


def by_kind(qtypes: dict[str, str]) -> dict[str, str]:
    """{"ffn_down_exps": "Q6_K*6 Q4_K*2 ..."}: the layers' types in order, run-length encoded."""
    kinds: dict[str, list[str]] = {}
    for name, qtype in qtypes.items():
        kinds.setdefault(re.sub(r"^blk\.\d+\.|\.weight$", "", name), []).append(qtype)
    return {
        kind: " ".join(f"{qtype}*{len(list(run))}" for qtype, run in groupby(types))
        for kind, types in sorted(kinds.items())
    }


if __name__ == "__main__":
    main()
