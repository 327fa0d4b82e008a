"""Measure the cost of word-for-word quotations: decoding restricted to a document's text, or not.

    python -m benchmarks.quote_speed MODEL.gguf [--tokens 32768] [--length 64] [--rounds 5]

The document consists of made-up words and is --tokens long. Restricted and unrestricted answers
have --length tokens, follow the same short prompt, and are sampled at temperature 1. They take
turns because a machine's speed drifts. Every quotation is then looked up in the document.

Prints one line per round, then one JSON line: seconds to build the grammar and to index the
document, both measured once, and the median speed of restricted decoding as a share of
unrestricted.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from statistics import median

from benchmarks.shared import make_parser
from l4cli import load
from l4cli.documents import Document
from l4cli.documents.quotes import QUOTES_LEAD, Quotes, quote_constraint
from l4cli.engine.types import Constraint
from l4cli.loading.llm import LLM

PARAGRAPH = 80  # words
SYLLABLES = (
    *("ba", "co", "di", "fu", "ga", "he", "jo", "ki", "lu", "ma"),
    *("ne", "po", "ra", "si", "tu", "va", "we", "xo", "ya", "zi"),
)


def made_up_document(llm: LLM, num_tokens: int) -> str:
    """Return paragraphs of sentences, about `num_tokens` tokens in all."""
    chance = random.Random(0)
    vocabulary = ["".join(chance.choices(SYLLABLES, k=chance.randint(1, 4))) for _ in range(5000)]

    def paragraph() -> str:
        words = [chance.choice(vocabulary) for _ in range(PARAGRAPH)]
        ends = range(11, PARAGRAPH, 12)
        return " ".join(word + ("." if n in ends else "") for n, word in enumerate(words))

    each = len(llm.vocabulary.tokenize(paragraph()))
    return "\n\n".join(paragraph() for _ in range(max(1, num_tokens // each)))


def decode(llm: LLM, length: int, seed: int, constraint: Constraint | None) -> tuple[float, str]:
    """Answer with `length` tokens; return the tokens per second after the first, and the text."""
    request = llm.request(
        "Quote the text.",
        max_tokens=length,
        temperature=1.0,
        seed=seed,
        ignore_eos=True,
        constraint=constraint,
    )
    (done,) = llm.engine.generate([request])
    return (done.num_completion_tokens - 1) / (done.seconds - done.ttft), done.text


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument(
        "--tokens", type=int, default=32768, help="length of the document (%(default)s)"
    )
    parser.add_argument(
        "--length", type=int, default=64, help="tokens of each answer (%(default)s)"
    )
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def main() -> None:
    options = parse()
    with load(options.model, ctx=2048, threads=options.threads) as llm:
        text = made_up_document(llm, options.tokens)
        decode(llm, 8, 0, Constraint("regex", ".*"))  # llguidance loads the vocabulary once
        began = time.perf_counter()
        constraint = quote_constraint([text], max_quotes=64)
        llm.check(llm.params(constraint=constraint))
        build = time.perf_counter() - began
        began = time.perf_counter()
        quotes = Quotes([Document("made-up.txt", text)])
        index = time.perf_counter() - began
        shares, num_quotes, num_proved = [], 0, 0
        for seed in range(options.rounds):
            free, _ = decode(llm, options.length, seed, None)
            held, answer = decode(llm, options.length, seed, constraint)
            _, found = quotes.of_answer(f"A.{QUOTES_LEAD}{answer}")
            whole = found[:-1] or found  # the last one may end within a word
            num_quotes += len(whole)
            num_proved += sum(one.is_proved for one in whole)
            shares.append(held / free)
            print(
                f"round {seed + 1}: unrestricted {free:.1f} tokens/s, "
                f"restricted {held:.1f} tokens/s, ratio {shares[-1]:.3f}",
                flush=True,
            )
        figures = {
            "num_tokens": len(llm.vocabulary.tokenize(text)),
            "num_chars": len(text),
            "build_seconds": round(build, 3),
            "index_seconds": round(index, 3),
            "held_share": round(median(shares), 3),
            "num_quotes": num_quotes,
            "num_proved": num_proved,
        }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
