"""Are logits after a restore, and after an edit, those of a fresh run, bit for bit?

    python benchmarks/states.py [--model demo] [--kv-types f16,q8_0] [--blocks 2] [--threads N]

A text of random words is read up to lengths just before, at and after each multiple of 8192 tokens
and stored; each length is restored in a context of its own, and asked about in a branch. The last
one is edited near its end, and the edited text also read from its first token on elsewhere. Prints
a line a length, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path[0] = str(Path(__file__).parent.parent)  # `convert` is the package

from benchmarks.kill_store import logits, read  # noqa: E402
from l4cli import load  # noqa: E402
from l4cli.engine.pieces import SEGMENT_TOKENS  # noqa: E402
from l4cli.loading.llm import LLM  # noqa: E402
from l4cli.store import reuse  # noqa: E402
from l4cli.store.directory import StateDirectory  # noqa: E402

BEHIND = 100  # tokens that the longest text goes beyond the last multiple


class Check:
    """One KV type: the text and the store, and a model for every context."""

    def __init__(self, options: argparse.Namespace, kv_type: str, root: Path) -> None:
        self.options, self.kv_type = options, kv_type
        self.directory = StateDirectory({"kv": kv_type}, root=root)
        with self.open() as llm:
            words = llm.vocabulary.tokenize("valve pump gauge filter harbour engine copper winter ")
        ends = [SEGMENT_TOKENS * (n + 1) for n in range(options.blocks)]
        self.lengths = [end + by for end in ends for by in (-1, 0, 1)] + [ends[-1] + BEHIND]
        draw = random.Random(0)
        self.tokens = [draw.choice(words) for _ in range(self.lengths[-1])]
        self.edited = [*self.tokens]
        self.edited[-BEHIND // 2] = next(
            word for word in words if word != self.edited[-BEHIND // 2]
        )

    def open(self) -> LLM:
        options, n_ctx = self.options, SEGMENT_TOKENS * self.options.blocks + 2 * BEHIND
        return load(
            options.model,
            ctx=n_ctx,
            parallel=2,
            store=True,
            kv_type=self.kv_type,
            threads=options.threads,
        )

    def run(self) -> list[bool]:
        """Whether each comparison came out equal."""
        fresh = {}
        with self.open() as llm:
            for length in self.lengths:
                read(llm, self.tokens[:length])
                fresh[length] = logits(llm, self.tokens[:length])
                reuse.remember(llm.engine, self.directory, self.tokens[:length], note=print)
            read(llm, self.edited)
            by_edit = logits(llm, self.edited)
        found = []
        for length in self.lengths:
            with self.open() as llm:
                tokens = self.tokens[:length]
                restored = reuse.recall(llm.engine, self.directory, tokens, exact=True, note=print)
                read(llm, tokens)
                found.append(np.array_equal(logits(llm, tokens), fresh[length]))
            print(f"{self.kv_type}  {length:>7,}  {restored:>7,} restored  equal: {found[-1]}")
        with self.open() as llm:
            read(llm, self.edited)
            found.append(np.array_equal(logits(llm, self.edited), by_edit))
        print(f"{self.kv_type}  {self.lengths[-1]:>7,}  edited            equal: {found[-1]}")
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--kv-types", default="f16,q8_0")
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {
            kv_type: Check(options, kv_type, Path(folder)).run()
            for kv_type in options.kv_types.split(",")
        }
    results = [one for each in found.values() for one in each]
    print(json.dumps({"compared": len(results), "different": results.count(False)}))


if __name__ == "__main__":
    main()
