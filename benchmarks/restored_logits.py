"""Check that logits after a restore, and after an edit, equal those of a fresh prefill bit for bit.

    python -m benchmarks.restored_logits [--model demo] [--kv-types f16,q8_0] [--segments 2]

A text of random words is prefilled to lengths just before, at and just after each multiple of 8192
tokens, the length of a segment, and stored. Each length is then restored in a new context, and the
logits after a question are compared. The longest text is also edited near its end, and the edited
text prefilled in a context of its own from the first token on. Prints one line per length, then one
JSON line.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.kill_store import logits, read
from benchmarks.shared import make_parser
from l4cli import load
from l4cli.engine.pieces import SEGMENT_TOKENS
from l4cli.loading.llm import LLM
from l4cli.store import reuse
from l4cli.store.directory import StateDirectory

TAIL = 100  # how many tokens the longest text has after the last full segment


class Check:
    """The comparisons with one KV type: a text, the store, and a way to load the model.

    root: the folder of the reading cache.
    """

    def __init__(self, options: argparse.Namespace, kv_type: str, root: Path) -> None:
        self.options, self.kv_type = options, kv_type
        self.directory = StateDirectory({"kv": kv_type}, root=root)
        with self.open() as llm:
            words = llm.vocabulary.tokenize("valve pump gauge filter harbour engine copper winter ")
        ends = [SEGMENT_TOKENS * (n + 1) for n in range(options.segments)]
        self.lengths = [end + by for end in ends for by in (-1, 0, 1)] + [ends[-1] + TAIL]
        draw = random.Random(0)
        self.tokens = [draw.choice(words) for _ in range(self.lengths[-1])]
        self.edited = [*self.tokens]
        self.edited[-TAIL // 2] = next(word for word in words if word != self.edited[-TAIL // 2])

    def open(self) -> LLM:
        """Load the model with a new context, and a KV cache with room for the longest text."""
        return load(
            self.options.model,
            ctx=SEGMENT_TOKENS * self.options.segments + 2 * TAIL,
            parallel=2,
            store=True,
            kv_type=self.kv_type,
            threads=self.options.threads,
        )

    def run(self) -> list[bool]:
        """Make all comparisons; return for each whether the logits were equal."""
        fresh = {}
        with self.open() as llm:
            for length in self.lengths:
                read(llm, self.tokens[:length])
                fresh[length] = logits(llm, self.tokens[:length])
                reuse.remember(llm.engine, self.directory, self.tokens[:length], note=print)
            read(llm, self.edited)
            after_edit = logits(llm, self.edited)
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
            found.append(np.array_equal(logits(llm, self.edited), after_edit))
        print(f"{self.kv_type}  {self.lengths[-1]:>7,}  edited            equal: {found[-1]}")
        return found


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--kv-types", default="f16,q8_0", help="(%(default)s)")
    parser.add_argument(
        "--segments", type=int, default=2, help="8192-token segments of the text (%(default)s)"
    )
    parser.add_argument("--threads", type=int)
    return parser.parse_args()


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        found = {
            kv_type: Check(options, kv_type, Path(folder)).run()
            for kv_type in options.kv_types.split(",")
        }
    results = [one for each in found.values() for one in each]
    print(json.dumps({"compared": len(results), "different": results.count(False)}))


if __name__ == "__main__":
    main()
