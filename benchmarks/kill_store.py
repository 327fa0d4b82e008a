"""Kill a process while it writes the reading cache, and check what another process restores.

    python -m benchmarks.kill_store [--kills 20] [--model demo] [--tokens 12000] [--seed 0]

One process prefills a prefix, then saves it to a store again and again; it empties the store before
each time. It is killed at a random moment. A second process restores as much of the prefix as it
finds, computes the rest, and compares the logits after it with those of the original prefill, bit
for bit. Prints one line per kill, then one JSON line.

With 12000 tokens (a segment of 8192 and a long tail), many kills leave a complete segment and an
incomplete tail: the second process restores the segment and computes the tail.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.shared import make_parser, output_of
from l4cli import load
from l4cli.engine.llamacpp import LlamaBackend
from l4cli.engine.types import BatchItem
from l4cli.loading.llm import LLM
from l4cli.store import reuse
from l4cli.store.directory import StateDirectory

QUESTION = [11, 12, 13, 14]  # token ids


def open_model(model: str, num_tokens: int) -> tuple[LLM, list[int]]:
    """Load the model; return it and a prefix of `num_tokens` random words, always the same."""
    llm = load(model, ctx=num_tokens + 64, parallel=2, store=True)
    words = llm.vocabulary.tokenize("valve pump gauge filter harbour engine copper winter ledger ")
    rng = random.Random(0)
    return llm, [rng.choice(words) for _ in range(num_tokens)]


def read(llm: LLM, tokens: list[int]) -> None:
    """Prefill `tokens`, except for the prefix that a sequence already holds."""
    for _ in llm.engine.prefixes.prefill(tokens, pin=True):
        pass


def logits(llm: LLM, tokens: list[int]) -> NDArray[np.float32]:
    """Return the logits after a question that follows the prefilled `tokens`."""
    backend = llm.engine.backend
    assert isinstance(backend, LlamaBackend)
    holder, held = llm.engine.prefixes.holder(tokens)
    assert holder is not None
    branch = 1 - holder.seq_id
    backend.fork(holder.seq_id, branch, held)
    backend.decode([BatchItem(branch, held, QUESTION, wants_logits=True)])
    found: NDArray[np.float32] = backend.logits(0).copy()
    backend.truncate(branch, 0)
    return found


def store(llm: LLM, root: Path) -> StateDirectory:
    """Let the model's reading cache use the folder `root`; return the store."""
    assert llm.states is not None
    llm.states.root, llm.states.path = root, root / llm.states.key
    return llm.states


def write(options: argparse.Namespace) -> None:
    """Prefill the prefix (or restore it from an earlier round), then save it until killed."""
    llm, tokens = open_model(options.model, options.tokens)
    kept = store(llm, options.folder / "kept")
    reuse.recall(llm.engine, kept, tokens, exact=True)
    read(llm, tokens)
    reuse.remember(llm.engine, kept, tokens)
    if not (options.folder / "logits.npy").exists():
        np.save(options.folder / "logits.npy", logits(llm, tokens))
    tried = store(llm, options.folder / "tried")
    while True:
        shutil.rmtree(tried.root, ignore_errors=True)
        print("writing", flush=True)
        assert reuse.remember(llm.engine, tried, tokens)


def verify(options: argparse.Namespace) -> None:
    """Restore from the store of the killed process, compare the logits, and print the outcome."""
    llm, tokens = open_model(options.model, options.tokens)
    notes: list[str] = []
    tried = store(llm, options.folder / "tried")
    restored = reuse.recall(llm.engine, tried, tokens, exact=True, note=notes.append)
    is_equal = True
    if restored:
        read(llm, tokens)
        is_equal = np.array_equal(logits(llm, tokens), np.load(options.folder / "logits.npy"))
    parts = len(list(tried.path.glob("*.part")))
    print(json.dumps({"restored": restored, "equal": is_equal, "notes": notes, "parts": parts}))


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--model", default="demo")
    parser.add_argument(
        "--tokens", type=int, default=12000, help="length of the prefix (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    # For the two child processes.
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--role", choices=("write", "verify"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.role:
        (write if options.role == "write" else verify)(options)
        return
    moments, rounds = random.Random(options.seed), []
    with tempfile.TemporaryDirectory() as folder:
        settings = ["--model", options.model, "--tokens", str(options.tokens), "--folder", folder]
        command = [sys.executable, "-m", "benchmarks.kill_store", *settings, "--role"]
        for _ in range(options.kills):
            with subprocess.Popen([*command, "write"], stdout=subprocess.PIPE) as writer:
                assert writer.stdout is not None
                assert writer.stdout.readline(), "the writing process failed"
                began = time.monotonic()
                assert writer.stdout.readline(), "the writing process failed"
                time.sleep(moments.random() * (time.monotonic() - began))  # within one save
                writer.kill()
            rounds.append(json.loads(output_of([*command, "verify"])))
            print(rounds[-1], flush=True)
    result = {
        "kills": len(rounds),
        "wrong": sum(not each["equal"] for each in rounds),
        "noted": sum(bool(each["notes"]) for each in rounds),
        "restored_whole": sum(each["restored"] == options.tokens for each in rounds),
        "restored_part": sum(0 < each["restored"] < options.tokens for each in rounds),
        "left_parts": sum(each["parts"] for each in rounds),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
