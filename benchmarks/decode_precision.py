"""Measure how far a token that is decoded alone differs from one that is prefilled, on a CPU.

    python -m benchmarks.decode_precision MODEL.gguf [--tokens 6000] [--kv-types f16,bf16,q8_0]

Prefill and decode compute the same next-token distribution by different code of llama.cpp. When it
decodes, its flash attention for CPUs adds up F16 values in F16, over all tokens that one thread has
(`ggml_compute_forward_flash_attn_ext_f16_one_chunk` in ggml's ops.cpp; a cache of F32 is cast to
F16 first). Over thousands of tokens such a sum stops growing. Prefill adds up in F32, and so does
decode with any other type of KV cache.

The text is l4's own documentation. Reference: the last 100 tokens prefilled together, F16 cache.
Prints the Kullback-Leibler divergence from it, in nats, and whether the likeliest token is the
same; one line for each KV type and number of threads, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks import ROOT
from benchmarks.shared import make_parser
from l4cli.engine.llamacpp import LlamaBackend, LlamaModel
from l4cli.engine.types import BatchItem

_LAST = 100  # tokens that are prefilled together; more than flash attention's tile of 64
_PIECE = 2048

LogProbs = npt.NDArray[np.float64]


def log_probs(
    model: LlamaModel, tokens: list[int], kv_type: str, threads: int, *, alone: bool
) -> LogProbs:
    """Return the log probabilities of all tokens after `tokens`, [n_vocab].

    alone: decode the last token by itself.
    """
    backend = LlamaBackend(
        model, n_ctx=len(tokens) + 64, n_batch=_PIECE, n_threads=threads, kv_type=kv_type
    )
    try:
        last = len(tokens) - (1 if alone else _LAST)
        for start in range(0, last, _PIECE):
            backend.decode([BatchItem(0, start, tokens[start : min(last, start + _PIECE)], False)])
        backend.decode([BatchItem(0, last, tokens[last:], True)])
        logits = backend.logits(0).astype(np.float64)
    finally:
        backend.close()
    logits -= logits.max()
    found: LogProbs = logits - np.log(np.exp(logits).sum())
    return found


def main() -> None:
    args = _arguments()
    model = LlamaModel(args.model)
    text = "".join(page.read_text("utf-8") for page in sorted((ROOT / "docs").glob("*.md")))
    tokens = model.tokenize(text)[: args.tokens]
    reference = log_probs(model, tokens, "f16", max(args.threads), alone=False)
    rows = []
    for kv_type in args.kv_types:
        for threads in args.threads:
            found = log_probs(model, tokens, kv_type, threads, alone=True)
            divergence = float((np.exp(reference) * (reference - found)).sum())
            same = bool(found.argmax() == reference.argmax())
            print(f"{kv_type:<5} {threads} threads: {divergence:.2e} nats, same token: {same}")
            rows.append({"kv": kv_type, "threads": threads, "nats": divergence, "same": same})
    print(json.dumps({"model": args.model.name, "tokens": len(tokens), "decoded": rows}))


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=6000)
    parser.add_argument("--kv-types", type=lambda s: s.split(","), default=["f16", "bf16", "q8_0"])
    parser.add_argument(
        "--threads", type=lambda s: [int(n) for n in s.split(",")], default=[1, 2, 4]
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
