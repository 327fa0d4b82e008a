"""`l4 bench` against llama-bench: the same file, settings and threads, in turns.

    python benchmarks/bench.py MODEL.gguf --peer FOLDER [--depths 0,2048] [--repeat 5]

FOLDER holds the llama-bench of the llama.cpp that l4 runs on (benchmarks/peer.py builds it). Both
drive the same library, so the ratios should be 1 within the noise, which each round's own ratio shows;
but for prompts of models with large experts (benchmarks/wide.py): l4 does not reorder those.
Prints a line a round, then one JSON line: the median ratio (l4 / llama-bench) of each rate.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

Rates = dict[str, float]  # tokens per second by "prefill @ depth" and "decode @ depth"


def ours(options: argparse.Namespace) -> Rates:
    command = [
        sys.executable, "-m", "l4cli", "bench", options.model, "--json", "--batch", 1,
        "--depth", options.depths, "--prompt", options.prompt, "--gen", options.gen,
        "--repeat", options.samples, "--threads", options.threads,
    ]  # fmt: skip
    found = json.loads(_output(command, os.environ))
    return {
        f"{kind} @ {row['depth']}": row["tokens_per_second"]
        for kind in ("prefill", "decode")
        for row in found[kind]
    }


def theirs(options: argparse.Namespace) -> Rates:
    command = [
        options.peer / "llama-bench", "-m", options.model, "-p", options.prompt, "-n", options.gen,
        "-d", options.depths, "-r", options.samples, "-t", options.threads, "-o", "json",
    ]  # fmt: skip
    # What l4 sets for the OpenMP of its own process: the same barriers on both sides.
    found = json.loads(_output(command, {"GOMP_SPINCOUNT": "2000", **os.environ}))
    return {
        f"{'prefill' if row['n_prompt'] else 'decode'} @ {row['n_depth']}": median(
            row["samples_ts"]
        )
        for row in found
    }


def _output(command: list[object], environment: dict[str, str] | os._Environ[str]) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
        env=dict(environment),
    )
    return done.stdout


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--peer", type=Path, required=True, help="where llama-bench lies")
    parser.add_argument("--depths", default="0,2048")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--gen", type=int, default=64)
    parser.add_argument("--samples", type=int, default=5, help="repeats within a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
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
    ratios = {rate: round(median(found[rate] for found in rounds), 4) for rate in rounds[0]}
    print(json.dumps({"model": options.model.name, "ratio to llama-bench": ratios}))


if __name__ == "__main__":
    main()
