"""`l4 chat` against llama-bench: decode speed on the same file, with the same threads, in one run.

    python benchmarks/chat.py MODEL.gguf --peer FOLDER [--threads 2] [--tokens 128] [--rounds 5]

FOLDER holds llama-bench of the llama.cpp that l4 runs on (benchmarks/peer.py builds it). A chat runs
in a pseudo-terminal, Markdown, sampling and all, and answers questions of a growing conversation with
exactly --tokens tokens each; llama-bench generates as many at the depth of the first. They take
turns, since a machine's speed drifts. For every turn the tokens that had to be computed are shown:
only the new ones. Prints a line a round, then one JSON line: medians, and what l4 spends a token
outside llama_decode, in milliseconds of CPU time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import pexpect

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # `convert` is the package

from l4cli import load  # noqa: E402
from l4cli.chat.session import ChatSession  # noqa: E402
from l4cli.chat.terminal.render import view_for_stdout  # noqa: E402
from l4cli.engine.llamacpp import LlamaBackend  # noqa: E402

QUESTIONS = ("Tell me all about harbours and lanterns.", "And about bridges?", "Go on, please.")


def chat(options: argparse.Namespace) -> list[dict[str, float]]:
    """What each turn of a conversation in this terminal cost."""
    sampling = {
        "max_tokens": options.tokens, "ignore_eos": True, "temperature": options.temperature,
    }  # fmt: skip
    turns = []
    with load(options.model, threads=options.threads, ctx=options.ctx) as llm:
        session = ChatSession(llm, view_for_stdout(markdown=True), sampling=sampling)
        for question in QUESTIONS[: options.turns]:
            with decoding() as spent:
                answer = session.ask(question)
            turns.append(
                {
                    "tokens_per_second": answer.generation_tps,
                    "num_prompt_tokens": answer.num_prompt_tokens,
                    "num_cached_tokens": answer.num_cached_tokens,
                    "ttft": answer.ttft,
                    "own_ms": 1e3 * spent["own"] / len(answer.token_ids),
                }
            )
    return turns


@contextmanager
def decoding() -> Iterator[dict[str, float]]:
    """CPU seconds of this thread, less those in llama_decode."""
    decode, inside = LlamaBackend.decode, 0.0
    spent = {"own": 0.0}

    def timed(*arguments: Any) -> None:
        nonlocal inside
        began = time.thread_time()
        try:
            decode(*arguments)
        finally:
            inside += time.thread_time() - began

    LlamaBackend.decode = timed  # type: ignore[method-assign]
    began = time.thread_time()
    try:
        yield spent
    finally:
        LlamaBackend.decode = decode  # type: ignore[method-assign]
        spent["own"] = time.thread_time() - began - inside


def chat_in_a_terminal(options: argparse.Namespace) -> list[dict[str, float]]:
    """`chat` in a process of its own, whose terminal is read as fast as it is written."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "turns.json")
        command = [*sys.argv, "--session", str(out)]
        child = pexpect.spawn(
            sys.executable,
            command,
            dimensions=(40, 100),
            timeout=None,
            env={**os.environ, "TERM": "xterm-256color"},
        )
        shown = child.read()
        child.close()
        if child.exitstatus:
            raise SystemExit(shown.decode(errors="replace"))
        turns: list[dict[str, float]] = json.loads(out.read_text())
    return turns


def llama_bench(options: argparse.Namespace, depth: int) -> float:
    """Tokens generated a second by llama-bench behind so many tokens."""
    command = [
        options.peer / "llama-bench", "-m", options.model, "-t", options.threads,
        "-p", 0, "-n", options.tokens, "-d", depth, "-r", 1, "-o", "jsonl",
    ]  # fmt: skip
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(json.loads(done.stdout.splitlines()[-1])["avg_ts"])


def compare(options: argparse.Namespace) -> dict[str, Any]:
    rounds = []
    for number in range(options.rounds):
        turns = chat_in_a_terminal(options)
        first = turns[0]
        theirs = llama_bench(options, int(first["num_prompt_tokens"]))
        found = {
            "l4": first["tokens_per_second"],
            "llama-bench": theirs,
            "ratio": first["tokens_per_second"] / theirs,
            "own_ms": median(turn["own_ms"] for turn in turns),
        }
        rounds.append(found)
        print(", ".join(f"{name} {value:.3f}" for name, value in found.items()), flush=True)
        if number == 0:
            for turn in turns:
                new = turn["num_prompt_tokens"] - turn["num_cached_tokens"]
                print(
                    f"  prompt {turn['num_prompt_tokens']:.0f} tokens, {new:.0f} of them computed, "
                    f"first token after {turn['ttft']:.2f} s"
                )
    medians = {name: round(median(found[name] for found in rounds), 4) for name in rounds[0]}
    new = [int(turn["num_prompt_tokens"] - turn["num_cached_tokens"]) for turn in turns]
    return {"model": options.model.name, **medians, "prompt tokens computed": new}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--peer", type=Path, required=True, help="where llama-bench lies")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=128, help="of each answer")
    parser.add_argument("--turns", type=int, default=len(QUESTIONS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ctx", type=int, default=16384)
    parser.add_argument(
        "--temperature", type=float,
        help="the model's own unless given; 0.03 makes random weights as sure as trained ones",
    )  # fmt: skip
    parser.add_argument("--session", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    options = parse()
    if options.session:
        options.session.write_text(json.dumps(chat(options)))
    else:
        print(json.dumps(compare(options)))
