"""Compare prefill and decode with repacked (or AMX) weights and with weights as in the file.

    python -m benchmarks.repack_speed MODEL.gguf

ggml's CPU backend can copy weights into "extra buffers", in the order of its kernels: repacked, or
in tiles for AMX. Run this with the build of llama.cpp in question: on a processor with AMX, a build
with the flags that keep AMX's stores must prefill at least as fast as a build without AMX. The two
take turns; each figure is the median of the rounds. Prints one JSON line.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.shared import make_parser
from l4cli.engine.llamacpp import LlamaBackend, LlamaModel
from l4cli.engine.llamacpp.devices import cpu_features
from l4cli.engine.types import BatchItem

_N_PROMPT, _N_SINGLE = 512, 32


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    rates: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for _ in range(args.rounds):
        for repack, found in rates.items():
            found.append(_measure(args.model, repack=repack))
    medians = {
        repack: [median(each) for each in zip(*found, strict=True)]
        for repack, found in rates.items()
    }
    prefill, decode = (
        with_repack / without
        for with_repack, without in zip(medians[True], medians[False], strict=True)
    )
    figures = {
        "model": args.model.name,
        "amx": "AMX_INT8" in cpu_features(),
        "in file order": [round(each, 1) for each in medians[False]],
        "extra buffers": [round(each, 1) for each in medians[True]],
        "prefill ratio": round(prefill, 3),
        "decode ratio": round(decode, 3),
    }
    print(json.dumps(figures))


def _measure(path: Path, *, repack: bool) -> tuple[float, float]:
    """Return the tokens per second of prefilling a prompt, and of decoding after it."""
    model = LlamaModel(path, n_gpu_layers=0, repack=repack)
    backend = LlamaBackend(model, n_ctx=_N_PROMPT + _N_SINGLE, n_batch=_N_PROMPT)
    tokens = np.random.default_rng(1).integers(0, model.n_vocab, _N_PROMPT + _N_SINGLE).tolist()
    backend.decode([BatchItem(0, 0, tokens[:_N_PROMPT], True)])  # warm-up
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
