"""Compare the decode speed of `l4 chat` with llama-bench: same file, same threads, in turns.

    python -m benchmarks.chat MODEL.gguf --peer FOLDER [--threads 2] [--tokens 128] [--rounds 5]

FOLDER holds llama-bench of the llama.cpp that l4 runs on; `python -m benchmarks.build_peer
llama-bench` builds it. A chat with Markdown and sampling runs in a pseudo-terminal. It answers the
questions of a growing conversation with exactly --tokens tokens each. llama-bench generates as many
tokens at the depth of the first answer. The two take turns because a machine's speed drifts.

For every turn of the first round, the number of prompt tokens that had to be computed is shown: it
must be only the new ones. Prints one line per round, then one JSON line: medians, and the CPU time
per token that l4 spends outside llama_decode, in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.shared import Stopwatch, llama_bench, make_parser, medians, spawn_in_terminal
from l4cli import load
from l4cli.chat.session import ChatSession
from l4cli.chat.terminal.render import view_for_stdout
from l4cli.engine.llamacpp import LlamaBackend

QUESTIONS = ("Tell me all about harbours and lanterns.", "And about bridges?", "Go on, please.")


def chat(options: argparse.Namespace) -> list[dict[str, float]]:
    """Hold the conversation in this process's terminal; return the figures of each turn."""
    sampling = {
        "max_tokens": options.tokens, "ignore_eos": True, "temperature": options.temperature,
    }  # fmt: skip
    turns = []
    with load(options.model, threads=options.threads, ctx=options.ctx) as llm:
        session = ChatSession(llm, view_for_stdout(markdown=True), sampling=sampling)
        for question in QUESTIONS[: options.turns]:
            decoding = Stopwatch(time.thread_time)
            with decoding.around(LlamaBackend, "decode"):
                began = time.thread_time()
                answer = session.ask(question)
                own_seconds = time.thread_time() - began - decoding.seconds
            turns.append(
                {
                    "tokens_per_second": answer.generation_tps,
                    "num_prompt_tokens": answer.num_prompt_tokens,
                    "num_cached_tokens": answer.num_cached_tokens,
                    "ttft": answer.ttft,
                    "own_ms": 1e3 * own_seconds / len(answer.token_ids),
                }
            )
    return turns


def chat_in_a_terminal() -> list[dict[str, float]]:
    """Run `chat` in a child process, and read its pseudo-terminal as fast as it writes."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "turns.json")
        child = spawn_in_terminal(["-m", "benchmarks.chat", *sys.argv[1:], "--session", out])
        shown = child.read()
        child.close()
        if child.exitstatus:
            raise SystemExit(shown.decode(errors="replace"))
        turns: list[dict[str, float]] = json.loads(out.read_text())
    return turns


def peer_tps(options: argparse.Namespace, depth: int) -> float:
    """Return llama-bench's decode speed after `depth` tokens, in tokens per second."""
    (test,) = llama_bench(
        options.peer, "-m", options.model, "-t", options.threads,
        "-p", 0, "-n", options.tokens, "-d", depth, "-r", 1,
    )  # fmt: skip
    return float(test["avg_ts"])


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Run all rounds; return what the JSON line says."""
    rounds: list[dict[str, float]] = []
    num_new: list[int] = []
    for number in range(options.rounds):
        turns = chat_in_a_terminal()
        first = turns[0]
        theirs = peer_tps(options, int(first["num_prompt_tokens"]))
        found = {
            "l4": first["tokens_per_second"],
            "llama-bench": theirs,
            "ratio": first["tokens_per_second"] / theirs,
            "own_ms": median(turn["own_ms"] for turn in turns),
        }
        rounds.append(found)
        print(", ".join(f"{name} {value:.3f}" for name, value in found.items()), flush=True)
        num_new = [int(turn["num_prompt_tokens"] - turn["num_cached_tokens"]) for turn in turns]
        if number == 0:
            for turn, new in zip(turns, num_new, strict=True):
                print(
                    f"  prompt of {turn['num_prompt_tokens']:.0f} tokens, {new} of them computed, "
                    f"first token after {turn['ttft']:.2f} s"
                )
    rounded = {name: round(value, 4) for name, value in medians(rounds).items()}
    return {"model": options.model.name, **rounded, "prompt tokens computed": num_new}


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--peer", type=Path, required=True, help="the folder with llama-bench")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--tokens", type=int, default=128, help="length of each answer (%(default)s)"
    )
    parser.add_argument(
        "--turns", type=int, default=len(QUESTIONS), help="questions to ask (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ctx", type=int, default=16384)
    parser.add_argument(
        "--temperature",
        type=float,
        help="the model's own unless given; 0.03 makes the predictions of random weights as certain"
        " as those of trained weights",
    )
    parser.add_argument("--session", type=Path, help=argparse.SUPPRESS)  # where the child writes
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.session:
        options.session.write_text(json.dumps(chat(options)))
    else:
        print(json.dumps(compare(options)))


if __name__ == "__main__":
    main()
