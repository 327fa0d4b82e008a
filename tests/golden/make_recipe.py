"""Make recipe.json: the qtype llama.cpp's own quantizer picks for every tensor of real shapes.

    python tests/golden/make_recipe.py

A checkpoint of Scout's or Maverick's shapes is planned from headers over sparse files, its F32 GGUF
is likewise a header over a hole, and `llama_model_quantize` is asked for a dry run on it. The
answers are stored by kind of tensor, layers run-length encoded: "Q6_K*6 Q4_K*2 ...".
"""

from __future__ import annotations

import ctypes
import json
import re
import sys
import tempfile
from itertools import groupby
from pathlib import Path

import llama_cpp

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

import checkpoints  # noqa: E402

import convert  # noqa: E402
from convert.planning import plan_header  # noqa: E402
from convert.recipe import find_ftype  # noqa: E402

_LOG_LINE = re.compile(r"\] +(\S+) +- \[.*?type = +(\w+)")
_RESULT = re.compile(r"-> .*\((\w+)\)")


def main() -> None:
    recipes: dict[str, dict[str, dict[str, str]]] = {}
    for name, (kind, shapes) in checkpoints.RECIPE_MODELS.items():
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "model"
            checkpoint = checkpoints.write_hollow_checkpoint(path, kind=kind, shapes=shapes)
            gguf = write_hollow_gguf(path.with_suffix(".gguf"), checkpoint)
            recipes[name] = {ftype: by_kind(dry_run(gguf, ftype)) for ftype in convert.FTYPES}
    (HERE / "recipe.json").write_text(json.dumps(recipes, indent=1) + "\n")


def write_hollow_gguf(path: Path, checkpoint: Path) -> Path:
    plan = convert.plan(checkpoint, "F32")
    with path.open("wb") as file:
        file.write(plan_header(plan))
        file.truncate(plan.n_bytes)
    return path


def dry_run(gguf: Path, ftype: str) -> dict[str, str]:
    """The qtype of every tensor, as llama.cpp's quantizer logs it."""
    text: list[bytes] = []
    log = llama_cpp.llama_log_callback(lambda _level, line, _data: text.append(line))
    llama_cpp.llama_log_set(log, None)
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.dry_run, params.nthread = find_ftype(ftype).id, True, 1
    status = llama_cpp.llama_model_quantize(str(gguf).encode(), b"/dev/null", ctypes.byref(params))
    lines = b"".join(text).decode().splitlines()
    if status:
        raise SystemExit("\n".join(lines[-3:]))
    found: dict[str, str] = {}
    for line in lines:
        if head := _LOG_LINE.search(line):
            result = _RESULT.search(line)
            found[head[1]] = (result[1] if result else head[2]).upper()
    return found


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
