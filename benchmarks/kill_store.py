"""kill -9 while the prefix store is written, and then: is what it restores ever wrong?

    python benchmarks/kill_store.py [--kills 20] [--model demo] [--tokens 8400] [--seed 0]

A process reads once, then stores what it read again and again in a store that is emptied between;
it is killed at a random moment. Another restores what there is, computes the rest, and compares
the logits after it with those of the reading, bit for bit. Prints one JSON line last.
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

sys.path[0] = str(Path(__file__).parent.parent)  # `convert` is the package

from l4cli import load  # noqa: E402
from l4cli.engine.llamacpp import LlamaBackend  # noqa: E402
from l4cli.engine.types import BatchItem  # noqa: E402
from l4cli.loading.llm import LLM  # noqa: E402
from l4cli.store import reuse  # noqa: E402
from l4cli.store.directory import StateDirectory  # noqa: E402

QUESTION = [11, 12, 13, 14]


def open_model(model: str, num_tokens: int) -> tuple[LLM, list[int]]:
    llm = load(model, ctx=num_tokens + 64, parallel=2, store=True)
    words = llm.vocabulary.tokenize("valve pump gauge filter harbour engine copper winter ledger ")
    rng = random.Random(0)
    return llm, [rng.choice(words) for _ in range(num_tokens)]


def read(llm: LLM, tokens: list[int]) -> None:
    for _ in llm.engine.prefixes.prefill(tokens, pin=True):
        pass


def logits(llm: LLM, tokens: list[int]) -> np.ndarray:
    """After a question behind what was read."""
    backend = llm.engine.backend
    assert isinstance(backend, LlamaBackend)
    holder, held = llm.engine.prefixes.holder(tokens)
    assert holder is not None
    branch = 1 - holder.seq_id
    backend.fork(holder.seq_id, branch, held)
    backend.decode([BatchItem(branch, held, QUESTION, wants_logits=True)])
    found = backend.logits(0).copy()
    backend.truncate(branch, 0)
    return found


def store(llm: LLM, root: Path) -> StateDirectory:
    assert llm.states is not None
    llm.states.root, llm.states.path = root, root / llm.states.key
    return llm.states


def write(options: argparse.Namespace) -> None:
    """Read (or restore what an earlier round read), then store it until killed."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--tokens", type=int, default=8400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--role", choices=("write", "verify"))
    options = parser.parse_args()
    if options.role:
        (write if options.role == "write" else verify)(options)
        return
    moments, rounds = random.Random(options.seed), []
    with tempfile.TemporaryDirectory() as folder:
        settings = ["--model", options.model, "--tokens", str(options.tokens), "--folder", folder]
        command = [sys.executable, __file__, *settings, "--role"]
        for _ in range(options.kills):
            with subprocess.Popen([*command, "write"], stdout=subprocess.PIPE) as writer:
                assert writer.stdout is not None
                assert writer.stdout.readline(), "the writer has failed"
                time.sleep(moments.random() * 0.3)
                writer.kill()
            done = subprocess.run([*command, "verify"], capture_output=True, check=True)
            rounds.append(json.loads(done.stdout))
            print(rounds[-1], flush=True)
    print(
        json.dumps(
            {
                "kills": len(rounds),
                "wrong": sum(not each["equal"] for each in rounds),
                "noted": sum(bool(each["notes"]) for each in rounds),
                "restored_whole": sum(each["restored"] == options.tokens for each in rounds),
                "restored_part": sum(0 < each["restored"] < options.tokens for each in rounds),
                "left_parts": sum(each["parts"] for each in rounds),
            }
        )
    )


if __name__ == "__main__":
    main()
