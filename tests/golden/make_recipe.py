"""Make recipe.json: the qtypes that llama.cpp's quantizer chooses for tensors of real shapes.

    python tests/golden/make_recipe.py

Checkpoints of Scout's and Maverick's shapes are written as sparse files, and so are their F32 GGUF
files. `llama_model_quantize` makes a dry run on these, without and with an importance matrix. The
qtypes are stored by kind of tensor, with the layers run-length encoded: "Q6_K*6 Q4_K*2 ...". The
entry "imatrix" only has those that an importance matrix changes.
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
