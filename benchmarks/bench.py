"""Compare the speeds that `l4 bench` and llama-bench measure: same file, settings and threads.

    python -m benchmarks.bench MODEL.gguf --peer FOLDER [--depths 0,2048] [--repeat 5]

FOLDER holds llama-bench of the llama.cpp that l4 runs on; `python -m benchmarks.build_peer
llama-bench` builds it. Both programs call the same library, so each ratio should be 1 within the
noise; the ratios of the single rounds show how large the noise is. Prefill of models with large
experts is an exception: llama-bench repacks their weights, l4 leaves them in the file's order
(`python -m benchmarks.make_wide_gguf` makes such a model).

The two take turns. Prints one line per round, then one JSON line: the median ratio (l4 /
llama-bench) of each speed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median

from benchmarks.shared import L4, llama_bench, make_parser, medians, output_of

Rates = dict[str, float]  # tokens per second by "prefill @ depth" and "decode @ depth"


def ours(options: argparse.Namespace) -> Rates:
    """Run `l4 bench`."""
    command = [
        *L4, "bench", options.model, "--json", "--batch", 1,
        "--depth", options.depths, "--prompt", options.prompt, "--gen", options.gen,
        "--repeat", options.samples, "--threads", options.threads,
    ]  # fmt: skip
    found = json.loads(output_of(command))
    return {
        f"{kind} @ {row['depth']}": row["tokens_per_second"]
        for kind in ("prefill", "decode")
        for row in found[kind]
    }


def theirs(options: argparse.Namespace) -> Rates:
    """Run llama-bench."""
    tests = llama_bench(
        options.peer, "-m", options.model, "-p", options.prompt, "-n", options.gen,
        "-d", options.depths, "-r", options.samples, "-t", options.threads,
    )  # fmt: skip
    return {
        f"{'prefill' if test['n_prompt'] else 'decode'} @ {test['n_depth']}": median(
            test["samples_ts"]
        )
        for test in tests
    }


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--peer", type=Path, required=True, help="the folder with llama-bench")
    parser.add_argument(
        "--depths", default="0,2048", help="tokens in the KV cache beforehand (%(default)s)"
    )
    parser.add_argument("--prompt", type=int, default=512, help="tokens to prefill (%(default)s)")
    parser.add_argument("--gen", type=int, default=64, help="tokens to decode (%(default)s)")
    parser.add_argument(
        "--samples", type=int, default=5, help="measurements of a speed per round (%(default)s)"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3, help="rounds (%(default)s)")
    return parser.parse_args()


def main() -> None:
    options = parse()
    rounds: list[Rates] = []
    for turn in range(options.repeat):
        both = (ours, theirs) if turn % 2 == 0 else (theirs, ours)  # neither always goes first
        found = {side: side(options) for side in both}
        mine, peer = found[ours], found[theirs]
        rounds.append({rate: mine[rate] / peer[rate] for rate in mine})
        shown = (f"{r} {mine[r]:.4g} / {peer[r]:.4g} = {rounds[-1][r]:.3f}" for r in mine)
        print("  " + ", ".join(shown), flush=True)
    ratios = {rate: round(ratio, 4) for rate, ratio in medians(rounds).items()}
    print(json.dumps({"model": options.model.name, "ratio to llama-bench": ratios}))


if __name__ == "__main__":
    main()
