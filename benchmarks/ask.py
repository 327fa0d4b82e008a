"""Ask two questions about one document with `l4 ask`, in two processes, and run llama-bench.

    python -m benchmarks.ask MODEL.gguf --peer FOLDER [--tokens 16384] [--rounds 3]

FOLDER holds llama-bench of the llama.cpp that l4 runs on; `python -m benchmarks.build_peer
llama-bench` builds it. Each round begins with an empty reading cache. The first question prefills
the document and stores its KV cache; the second restores it. Measured are:

- the time to the first token of the second question as a share of the first's, both counted from
  the moment the model is loaded;
- the prefill speed of l4, while it also writes the store, against llama-bench at the same n_ubatch;
- the peak of memory that is not a page of a file, against what `l4 ask --dry-run` planned.

Prints one line per round, then one JSON line with medians.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.shared import L4, llama_bench, make_parser, medians, memory
from l4cli.store.chain import MIN_TAIL

WORDS = (
    *("valve", "pump", "gauge", "filter", "harbour", "engine", "copper", "winter", "ledger"),
    *("signal", "garden", "mirror", "ticket", "river", "market", "lantern", "compass", "orchard"),
)
N_UBATCH = 512


def write_document(path: Path, num_words: int, seed: int) -> None:
    """Write a text of random words, 12 on each line."""
    rng = Random(seed)
    words = [rng.choice(WORDS) for _ in range(num_words)]
    lines = [" ".join(words[start : start + 12]) + "." for start in range(0, num_words, 12)]
    path.write_text("\n".join(lines))


def ask(options: argparse.Namespace, document: Path, home: Path, *args: str) -> tuple[Any, int]:
    """Run `l4 ask --json`; return its output and its peak of RssAnon in bytes.

    home: the folder for l4's caches and state, instead of the user's.
    """
    command = [
        *L4, "ask", str(document), "-m", str(options.model), "--json",
        "--threads", str(options.threads), "--kv-type", options.kv_type, *args,
    ]  # fmt: skip
    homes = {name: str(home / name) for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **homes})
    peak = 0
    while process.poll() is None:
        peak = max(peak, memory(process.pid).get("RssAnon", 0))
        time.sleep(0.05)
    assert process.stdout is not None
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return json.loads(process.stdout.read()), peak


def ttft(output: Any) -> float:
    """Return the seconds from the loaded model to the first token of the first answer."""
    reading = output["reading"]
    first = output["answers"][0]["ttft"]
    return float(reading["restore_seconds"] + reading["prefill_seconds"] + first)


def peer_tps(options: argparse.Namespace, num_tokens: int) -> float:
    """Return llama-bench's prefill speed in tokens per second, on a prompt of `num_tokens`."""
    (test,) = llama_bench(
        options.peer, "-m", options.model, "-p", num_tokens, "-n", 0, "-r", 1,
        "-ub", N_UBATCH, "-b", N_UBATCH, "-fa", 1, "-t", options.threads,
        "-ctk", options.kv_type, "-ctv", options.kv_type,
    )  # fmt: skip
    return float(test["avg_ts"])


def measure(options: argparse.Namespace, number: int) -> dict[str, float]:
    """Run round `number` with a new document and an empty reading cache; return its figures."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        document = home / "document.txt"
        write_document(document, int(options.tokens / options.tokens_per_word), number)
        planned, _ = ask(options, document, home, "-q", "Which?", "--dry-run", "-n", "16")
        answered = ("-n", "16", "--temperature", "0")
        first, peak = ask(options, document, home, "-q", "Which words are there?", *answered)
        second, _ = ask(options, document, home, "-q", "How many lines are there?", *answered)
        num_tokens = first["reading"]["tokens"]
        if second["reading"]["restored"] <= num_tokens - MIN_TAIL:
            sys.exit("the second question restored too little of what the first stored")
    size = planned["bytes"]
    tps = num_tokens / first["reading"]["prefill_seconds"]
    peer = peer_tps(options, num_tokens)
    return {
        "tokens": num_tokens,
        "ttft_first": ttft(first),
        "ttft_second": ttft(second),
        "ttft_share": ttft(second) / ttft(first),
        "reading_tps": tps,
        "peer_tps": peer,
        "reading_ratio": tps / peer,
        "memory_ratio": peak / (size["total"] - size["weights"] + size["weights_copied"]),
        "stored_ratio": first["reading"]["bytes_saved"] / size["stored"],
    }


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--peer", type=Path, required=True, help="the folder with llama-bench")
    parser.add_argument(
        "--tokens", type=int, default=16384, help="length of the document, about (%(default)s)"
    )
    parser.add_argument(
        "--tokens-per-word",
        type=float,
        default=1.2,
        help="how many tokens the model needs for a word of the document, about (%(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--kv-type", default="f16")
    return parser.parse_args()


def main() -> None:
    options = parse()
    rounds = []
    for number in range(options.rounds):
        rounds.append(measure(options, number))
        print(" ".join(f"{key} {value:.4g}" for key, value in rounds[-1].items()), flush=True)
    print(json.dumps(medians(rounds)))


if __name__ == "__main__":
    main()
