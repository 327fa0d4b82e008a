"""`l4 ask` twice about one document, in two processes, beside llama-bench reading as much.

    python benchmarks/ask.py MODEL.gguf --peer FOLDER [--tokens 16384] [--rounds 3]

FOLDER holds the llama-bench of the llama.cpp that l4 runs on (benchmarks/peer.py builds it). Each
round begins with an empty prefix store. Told are: the time to the first token of the second question as a
share of the first's, both counted from when the model is loaded; reading as tokens a second, with
the store being written, against llama-bench's prompt processing at the same ubatch; and the peak of
memory that is no page of a file against what --dry-run said of it. Prints a line a round, then one
JSON line of medians.
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
from statistics import median
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # `convert` is the package

from l4cli.store.chain import MIN_TAIL  # noqa: E402

WORDS = (
    *("valve", "pump", "gauge", "filter", "harbour", "engine", "copper", "winter", "ledger"),
    *("signal", "garden", "mirror", "ticket", "river", "market", "lantern", "compass", "orchard"),
)
N_UBATCH = 512


def write_document(path: Path, num_words: int, seed: int) -> None:
    rng = Random(seed)
    words = [rng.choice(WORDS) for _ in range(num_words)]
    lines = [" ".join(words[start : start + 12]) + "." for start in range(0, num_words, 12)]
    path.write_text("\n".join(lines))


def ask(options: argparse.Namespace, document: Path, home: Path, *args: str) -> tuple[Any, int]:
    """What `l4 ask --json` says, and the peak of its memory that is no page of a file, in bytes."""
    command = [
        sys.executable, "-m", "l4cli", "ask", str(document), "-m", str(options.model), "--json",
        "--threads", str(options.threads), "--kv-type", options.kv_type, *args,
    ]  # fmt: skip
    homes = {name: str(home / name) for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **homes})
    peak = 0
    while process.poll() is None:
        peak = max(peak, anonymous_memory(process.pid))
        time.sleep(0.05)
    assert process.stdout is not None
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return json.loads(process.stdout.read()), peak


def anonymous_memory(pid: int) -> int:
    """Bytes of RssAnon; 0 where the process has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(fields["RssAnon"].split()[0]) << 10 if "RssAnon" in fields else 0


def ttft(told: Any) -> float:
    reading = told["reading"]
    first = told["answers"][0]["ttft"]
    return float(reading["restore_seconds"] + reading["prefill_seconds"] + first)


def peer_tps(options: argparse.Namespace, num_tokens: int) -> float:
    """Prompt tokens a second of llama-bench, as many of them at once."""
    command = [
        options.peer / "llama-bench", "-m", options.model, "-p", num_tokens, "-n", 0, "-r", 1,
        "-ub", N_UBATCH, "-b", N_UBATCH, "-fa", 1, "-t", options.threads,
        "-ctk", options.kv_type, "-ctv", options.kv_type, "-o", "json",
    ]  # fmt: skip
    # What l4 sets for the OpenMP of its own process: the same barriers on both sides.
    environment = {"GOMP_SPINCOUNT": "2000", **os.environ}
    done = subprocess.run(list(map(str, command)), capture_output=True, check=True, env=environment)
    return float(json.loads(done.stdout)[0]["avg_ts"])


def measure(options: argparse.Namespace, number: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        document = home / "document.txt"
        write_document(document, int(options.tokens / options.tokens_per_word), number)
        told, _ = ask(options, document, home, "-q", "Which?", "--dry-run", "-n", "16")
        answered = ("-n", "16", "--temperature", "0")
        first, peak = ask(options, document, home, "-q", "Which words are there?", *answered)
        second, _ = ask(options, document, home, "-q", "How many lines are there?", *answered)
        num_tokens = first["reading"]["tokens"]
        if second["reading"]["restored"] <= num_tokens - MIN_TAIL:
            sys.exit("the second question found too little of the first's reading")
    size = told["bytes"]
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--tokens-per-word", type=float, default=1.2, help="of the model, about")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--kv-type", default="f16")
    options = parser.parse_args()
    rounds = []
    for number in range(options.rounds):
        rounds.append(measure(options, number))
        print(" ".join(f"{key} {value:.4g}" for key, value in rounds[-1].items()), flush=True)
    print(json.dumps({key: median(each[key] for each in rounds) for key in rounds[0]}))


if __name__ == "__main__":
    main()
