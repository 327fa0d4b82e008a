"""Does `l4 ask` find what stands at every tenth of a long document as well as `l4 run` does?

    python benchmarks/needles.py MODEL.gguf [--tokens 32768] [--documents 3] [--each 2]

The documents are those of the demo model's evaluation, of its held-out side: facts among facts and
filler. From every tenth of each so many facts are asked for, through `l4 ask` (the prefix store's
way of reading, questions as branches) and through `l4 run` with the evaluation's own prompt. Exact
answers count. Prints a row a tenth, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # `convert` is the package

from training.corpus import HELD_OUT  # noqa: E402
from training.corpus.reading import text_with_facts  # noqa: E402

TENTHS = 10
SIZE = 1.3  # what the generator, which counts characters, is asked for a token
Needle = tuple[int, str, str]  # its tenth, a question and the answer


def document(rng: Random, tokens: int, each: int) -> tuple[str, list[Needle]]:
    """A document of about so many tokens, and questions on every tenth of it."""
    text, facts = text_with_facts(rng, HELD_OUT, int(tokens * SIZE))
    by_tenth: dict[int, list[Needle]] = {}
    for fact in facts:
        tenth = text.index(fact.sentence) * TENTHS // len(text)
        by_tenth.setdefault(tenth, []).append((tenth, fact.question, fact.value))
    drawn = [rng.sample(found, min(each, len(found))) for _, found in sorted(by_tenth.items())]
    return text, [needle for found in drawn for needle in found]


def asked(model: Path, text: str, needles: list[Needle], scratch: Path) -> list[str]:
    """Through `l4 ask`, read afresh."""
    (scratch / "document.txt").write_text(text, "utf8")
    (scratch / "questions.txt").write_text("\n".join(q for _, q, _ in needles), "utf8")
    found = l4(
        "ask", scratch / "document.txt", "--questions", scratch / "questions.txt", "-m", model,
        "--temperature", 0, "--no-cache", "--json",
    )  # fmt: skip
    return [answer["answer"] for answer in json.loads(found)["answers"]]


def run(model: Path, text: str, needles: list[Needle], scratch: Path) -> list[str]:
    """Through `l4 run`."""
    rows = [{"prompt": f"{text}\n\n{question}", "temperature": 0} for _, question, _ in needles]
    (scratch / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf8")
    found = l4("run", scratch / "rows.jsonl", "-m", model, "--max-tokens", 160)
    return [json.loads(line).get("text", "") for line in found.splitlines()]


def l4(*words: Any) -> str:
    command = [sys.executable, "-m", "l4cli", *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--documents", type=int, default=3)
    parser.add_argument("--each", type=int, default=2, help="facts of every tenth")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    rng = Random(options.seed)
    counts = [0] * TENTHS
    right = {"ask": [0] * TENTHS, "run": [0] * TENTHS}
    with TemporaryDirectory() as folder:
        for _ in range(options.documents):
            text, needles = document(rng, options.tokens, options.each)
            for name, way in (("ask", asked), ("run", run)):
                answers = way(options.model, text, needles, Path(folder))
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
