"""Measure what counting experts costs: prefill with and without l4's callback, in turns.

    python -m benchmarks.make_wide_gguf wide.gguf
    python -m benchmarks.experts wide.gguf [--tokens 2048] [--repeat 5]

Four ways through the same tokens, in batches of 512, turn by turn in one process:

    plain     without the callback, logits of the last token only, as a prompt is computed
    outputs   without the callback, logits of all tokens: the last layer's experts see them all
    counting  with the callback and the logits of all tokens, as `l4 experts` counts
    decode    a token at a time, with and without the callback, as `l4 run --expert-counts` counts

The last line is JSON: seconds of each way (the least of the repeats), processor time, which a busy
machine changes less, and ratios. `counting / outputs` is what the callback costs, at most 1.15.
`counting / plain` has the work that plain leaves out as well: the last layer's experts for all
tokens but the last one. That is a quarter of all experts in a file of 4 layers, a 48th of Scout's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared import make_parser
from l4cli.engine.llamacpp import AnswerRoutes, LlamaBackend, LlamaModel
from l4cli.engine.llamacpp.routing import RoutingWatcher
from l4cli.engine.types import BatchItem
from l4cli.loading.load import load

_N_BATCH = 512
_NUM_DECODED = 16


def prefill(backend: LlamaBackend, tokens: list[int], *, wants_all: bool) -> float:
    """Return the seconds that the tokens take, a batch at a time."""
    backend.truncate(0, 0)
    started = time.perf_counter()
    for at in range(0, len(tokens), _N_BATCH):
        backend.decode([BatchItem(0, at, tokens[at : at + _N_BATCH], True, wants_all=wants_all)])
    return time.perf_counter() - started


def decode(backend: LlamaBackend, tokens: list[int]) -> float:
    """Return the seconds that some tokens take one at a time."""
    backend.truncate(0, 0)
    started = time.perf_counter()
    for at in range(_NUM_DECODED):
        backend.decode([BatchItem(0, at, [tokens[at]], True)])
    if backend.routes:
        backend.routes.take(0, 0, _NUM_DECODED)
    return time.perf_counter() - started


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    llm = load(options.model, elastic=True)  # weights are placed as for every command
    model = llm.vocabulary
    assert isinstance(model, LlamaModel)
    counts: dict[int, np.ndarray] = {}

    def take(layer: int, _placed: object, chosen: np.ndarray) -> None:
        counted = np.bincount(chosen.ravel(), minlength=256)
        counts[layer] = counts.get(layer, 0) + counted

    def backend(**more: Any) -> LlamaBackend:
        return LlamaBackend(
            model, n_ctx=options.tokens, n_batch=_N_BATCH, n_outputs=_N_BATCH,
            n_threads=options.threads, **more,
        )  # fmt: skip

    tokens = np.random.default_rng(0).integers(0, model.n_vocab, options.tokens).tolist()
    without, counting = backend(), backend(watcher=RoutingWatcher(take))
    routed = backend(routes=AnswerRoutes())
    ways: dict[str, Callable[[], float]] = {
        "plain": lambda: prefill(without, tokens, wants_all=False),
        "outputs": lambda: prefill(without, tokens, wants_all=True),
        "counting": lambda: prefill(counting, tokens, wants_all=True),
        "decode": lambda: decode(without, tokens),
        "decode, counting": lambda: decode(routed, tokens),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    used: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(options.repeat + 1):  # the first one warms up
        for name, way in ways.items():
            began = time.process_time()
            seconds = way()
            if turn:
                found[name].append(seconds)
                used[name].append(time.process_time() - began)
    best = {name: min(seconds) for name, seconds in found.items()}
    cpu = {name: min(seconds) for name, seconds in used.items()}
    for name, seconds in best.items():
        print(f"{name:20} {seconds:8.3f} s", flush=True)
    for each in (without, counting, routed):
        each.close()
    llm.close()
    summary = {
        "model": options.model.name,
        "tokens": options.tokens,
        "seconds": {name: round(seconds, 4) for name, seconds in best.items()},
        "cpu seconds": {name: round(seconds, 4) for name, seconds in cpu.items()},
        "counting / outputs, cpu": round(cpu["counting"] / cpu["outputs"], 3),
        "counting / plain, cpu": round(cpu["counting"] / cpu["plain"], 3),
        "decode, counting / decode, cpu": round(cpu["decode, counting"] / cpu["decode"], 3),
        "counting / plain": round(best["counting"] / best["plain"], 3),
        "counting / outputs": round(best["counting"] / best["outputs"], 3),
        "decode, counting / decode": round(best["decode, counting"] / best["decode"], 3),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
