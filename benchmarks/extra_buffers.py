"""Prompts and answers over repacked or AMX weights, against weights as they lie in the file.

    python benchmarks/extra_buffers.py model.gguf

Run it with the build of llama.cpp that is to be judged: on a processor with AMX a build with the
flags that keep AMX's stores has to read prompts at least as fast as one without AMX. The two take
turns; each figure is the median. Prints one JSON line last.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path[0] = str(Path(__file__).parent.parent)  # `convert` is the package

from l4cli.engine.llamacpp import LlamaBackend, LlamaModel  # noqa: E402
from l4cli.engine.llamacpp.devices import cpu_features  # noqa: E402
from l4cli.engine.types import BatchItem  # noqa: E402

_N_PROMPT, _N_SINGLE = 512, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    rates: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for _ in range(asked.rounds):
        for repack, found in rates.items():
            found.append(_measure(asked.model, repack=repack))
    median = {
        repack: [statistics.median(each) for each in zip(*found, strict=True)]
        for repack, found in rates.items()
    }
    prefill, decode = (
        there / here for there, here in zip(median[True], median[False], strict=True)
    )
    figures = {
        "model": asked.model.name,
        "amx": "AMX_INT8" in cpu_features(),
        "in file order": [round(each, 1) for each in median[False]],
        "extra buffers": [round(each, 1) for each in median[True]],
        "prefill ratio": round(prefill, 3),
        "decode ratio": round(decode, 3),
    }
    print(json.dumps(figures))


def _measure(path: Path, *, repack: bool) -> tuple[float, float]:
    """Tokens a second of a prompt, and of single tokens behind it."""
    model = LlamaModel(path, n_gpu_layers=0, repack=repack)
    backend = LlamaBackend(model, n_ctx=_N_PROMPT + _N_SINGLE, n_batch=_N_PROMPT)
    tokens = np.random.default_rng(1).integers(0, model.n_vocab, _N_PROMPT + _N_SINGLE).tolist()
    backend.decode([BatchItem(0, 0, tokens[:_N_PROMPT], True)])  # warms up
    backend.truncate(0, 0)
    began = time.perf_counter()
    backend.decode([BatchItem(0, 0, tokens[:_N_PROMPT], True)])
    between = time.perf_counter()
    for pos in range(_N_PROMPT, _N_PROMPT + _N_SINGLE):
        backend.decode([BatchItem(0, pos, tokens[pos : pos + 1], True)])
    ended = time.perf_counter()
    backend.close()
    model.close()
    return _N_PROMPT / (between - began), _N_SINGLE / (ended - between)


if __name__ == "__main__":
    main()
