"""Compare how often `l4 ask` and `l4 run` answer correctly about each tenth of a long document.

    python -m benchmarks.ask_accuracy MODEL.gguf [--tokens 32768] [--documents 3] [--each 2]

This is a needle-in-a-haystack test. The documents come from the held-out side of the demo model's
evaluation: facts among other facts and filler. --each facts of every tenth of a document are asked
for: through `l4 ask`, which prefills the document for the reading cache and asks in branches, and
through `l4 run` with the evaluation's own prompt. Only exact answers count. Prints one line per
tenth, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from benchmarks.shared import L4, make_parser, output_of
from training.corpus import HELD_OUT
from training.corpus.reading import text_with_facts

TENTHS = 10
SIZE = 1.3  # the generator estimates tokens from characters: how many to ask it for per real token
Needle = tuple[int, str, str]  # the tenth that holds the fact (from 0), a question, its answer


def document(rng: Random, tokens: int, each: int) -> tuple[str, list[Needle]]:
    """Return a document of about `tokens` tokens, and up to `each` needles of every tenth."""
    text, facts = text_with_facts(rng, HELD_OUT, int(tokens * SIZE))
    by_tenth: dict[int, list[Needle]] = {}
    for fact in facts:
        tenth = text.index(fact.sentence) * TENTHS // len(text)
        by_tenth.setdefault(tenth, []).append((tenth, fact.question, fact.value))
    drawn = [rng.sample(found, min(each, len(found))) for _, found in sorted(by_tenth.items())]
    return text, [needle for found in drawn for needle in found]


def with_ask(model: Path, text: str, needles: list[Needle], scratch: Path) -> list[str]:
    """Return the answers of `l4 ask`, which prefills the document without stored prefixes."""
    (scratch / "document.txt").write_text(text, "utf8")
    (scratch / "questions.txt").write_text("\n".join(q for _, q, _ in needles), "utf8")
    found = l4(
        "ask", scratch / "document.txt", "--questions", scratch / "questions.txt", "-m", model,
        "--temperature", 0, "--no-cache", "--json",
    )  # fmt: skip
    return [answer["answer"] for answer in json.loads(found)["answers"]]


def with_run(model: Path, text: str, needles: list[Needle], scratch: Path) -> list[str]:
    """Return the answers of `l4 run`."""
    rows = [{"prompt": f"{text}\n\n{question}", "temperature": 0} for _, question, _ in needles]
    (scratch / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf8")
    found = l4("run", scratch / "rows.jsonl", "-m", model, "--max-tokens", 160)
    return [json.loads(line).get("text", "") for line in found.splitlines()]


def l4(*words: object) -> str:
    """Return the output of an l4 command; the exit code 1 (some answers failed) is accepted."""
    return output_of([*L4, *words], exit_codes=(0, 1))


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument(
        "--tokens", type=int, default=32768, help="length of a document, about (%(default)s)"
    )
    parser.add_argument("--documents", type=int, default=3)
    parser.add_argument(
        "--each", type=int, default=2, help="facts to ask for in every tenth (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


def main() -> None:
    options = parse()
    rng = Random(options.seed)
    counts = [0] * TENTHS
    right = {"ask": [0] * TENTHS, "run": [0] * TENTHS}
    with TemporaryDirectory() as folder:
        for _ in range(options.documents):
            text, needles = document(rng, options.tokens, options.each)
            for name, answer_all in (("ask", with_ask), ("run", with_run)):
                answers = answer_all(options.model, text, needles, Path(folder))
                for (tenth, _, value), answer in zip(needles, answers, strict=True):
                    right[name][tenth] += answer.strip() == value
            for tenth, _, _ in needles:
                counts[tenth] += 1
    for tenth, count in enumerate(counts):
        print(
            f"{tenth + 1:>3}/10  of {count}: ask {right['ask'][tenth]}, run {right['run'][tenth]}"
        )
    print(json.dumps({"asked": sum(counts), **{name: sum(own) for name, own in right.items()}}))


if __name__ == "__main__":
    main()
