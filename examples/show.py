"""Print the prompts and answers of an `l4 run` for people to read.

python examples/show.py prompts.jsonl out.jsonl
"""

import json
import sys
from pathlib import Path


def main(prompts: str, answers: str) -> int:
    """Print each prompt with its answer; return 1 if an answer is an error, else 0."""
    rows = [json.loads(line) for line in Path(prompts).read_text("utf-8").split("\n") if line]
    outs = [json.loads(line) for line in Path(answers).read_text("utf-8").split("\n") if line]
    for row, out in zip(rows, outs, strict=True):
        question = row.get("prompt") or row["messages"][-1]["content"]
        answer = out.get("text") or out.get("message", {}).get("content") or out.get("error")
        sys.stdout.write(f"\n> {shorten(question)}\n{answer}\n")
    errors = sum("error" in out for out in outs)
    sys.stdout.write(f"\n{len(outs)} answers, {errors} errors, in {answers}\n")
    return 1 if errors else 0


def shorten(text: str, width: int = 160) -> str:
    """`text` on one line of at most `width` characters, with its middle left out."""
    text = " ".join(text.split())
    return text if len(text) <= width else f"{text[: width - 20]} … {text[-18:]}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
