"""Asks the held-out side through the product and prints what was right:
python -m training.evaluate F32.gguf Q8_0.gguf Q4_K_M.gguf"""

import argparse
import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from training import corpus
from training.corpus import guide, reading, tools
from training.corpus.reading import CHARS_PER_TOKEN

COUNTS = {"extraction": 300, "tools": 300, "manner": 200}
# Of each length so many documents, and questions on each: what is long is prefilled once. What the
# generator is asked for comes first: it counts characters, and a document has about four fifths of
# the tokens, a third more or less as it holds names or plain words.
READING = {
    1024: (1024, 200, 1),
    4096: (5300, 20, 5),
    8192: (10600, 20, 6),
    16384: (21200, 8, 10),
    32768: (42400, 8, 12),
}
MAX_TOKENS = 160


@dataclass(frozen=True)
class Question:
    group: str
    conversation: dict
    answer: str


@dataclass
class Score:
    asked: int = 0
    right: int = 0
    well_formed: int = 0
    stopped: int = 0
    wrong: list[tuple[str, str, str]] = field(default_factory=list)

    def note(self, question: Question, text: str, stopped: bool) -> None:
        self.asked += 1
        self.right += text == question.answer
        self.well_formed += well_formed(question, text)
        self.stopped += stopped
        if text != question.answer:
            asked = question.conversation["messages"][-1]["content"]
            self.wrong.append((asked[-120:], question.answer, text))


def well_formed(question: Question, text: str) -> bool:
    """Extraction must give JSON; where a call is due, tools must give a list of Python calls."""
    if question.group == "extraction":
        try:
            return isinstance(json.loads(text), dict)
        except ValueError:
            return False
    if question.group == "tools" and question.answer.startswith("["):
        try:
            tree = ast.parse(text, mode="eval").body
        except SyntaxError:
            return False
        return isinstance(tree, ast.List) and all(isinstance(e, ast.Call) for e in tree.elts)
    return True


def single(group: str, pairs: list[tuple[str, str]]) -> Iterator[Question]:
    for question, answer in pairs:
        yield Question(group, {"messages": [{"role": "user", "content": question}]}, answer)


def last_turns(group: str, conversation: dict) -> Iterator[Question]:
    """Each assistant turn is a question: all before it is given as it should have been."""
    messages = conversation["messages"]
    for i, message in enumerate(messages):
        if message["role"] == "assistant":
            yield Question(group, conversation | {"messages": messages[:i]}, message["content"])


def questions(seed: int, longest: int) -> Iterator[Question]:
    rng = Random(f"{seed}/evaluate")
    yield from single("guide, known", list(guide.known()))
    yield from single("guide, unseen", list(guide.unseen()))
    for skill, count in COUNTS.items():
        for _ in range(count):
            yield from last_turns(skill, corpus.conversation(skill, rng, corpus.HELD_OUT))
    for tokens, (size, documents, each) in READING.items():
        for _ in range(documents if tokens <= longest else 0):
            for conversation in reading.conversations(rng, corpus.HELD_OUT, size, each):
                yield from last_turns(f"reading, {tokens}", conversation)


def ask(command: list[str], model: Path, asked: list[Question], n_ctx: int) -> list[dict]:
    """The rows `l4 run` answers, in the order of the questions."""
    with TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        with rows.open("w", encoding="utf8") as file:
            for number, question in enumerate(asked):
                row = {"id": str(number), **question.conversation}
                row |= {"max_tokens": MAX_TOKENS, "temperature": 0}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        full = [*command, str(rows), "--model", str(model), "--ctx", str(n_ctx)]
        done = subprocess.run(full, stdout=subprocess.PIPE, check=False)
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(full)} ended with {done.returncode}")
    return [json.loads(line) for line in done.stdout.decode("utf8").split("\n") if line]


def as_text(message: dict) -> str:
    """An answer as the model wrote it: `l4 run` hands calls out parsed."""
    functions = [call["function"] for call in message.get("tool_calls", [])]
    calls = [tools.written(f["name"], json.loads(f["arguments"])) for f in functions]
    return f"[{', '.join(calls)}]" if calls else message.get("content") or ""


def evaluate(command: list[str], model: Path, asked: list[Question]) -> dict[str, Score]:
    scores: dict[str, Score] = {}
    longest = max(len(q.conversation["messages"][0]["content"]) for q in asked)
    n_ctx = max(16384, int(longest / CHARS_PER_TOKEN * 1.3) + 2048)
    for row in ask(command, model, asked, n_ctx):
        question = asked[int(row["id"])]
        score = scores.setdefault(question.group, Score())
        text = as_text(row.get("message", {}))
        score.note(question, text, row.get("finish_reason") == "stop")
    return scores


def table(by_model: dict[str, dict[str, Score]]) -> str:
    groups = list(dict.fromkeys(group for scores in by_model.values() for group in scores))
    lines = ["| held-out side, greedy | asked | " + " | ".join(by_model) + " |"]
    lines.append("| --- " * (len(by_model) + 2) + "|")
    for group in groups:
        found = [scores[group] for scores in by_model.values()]
        cells = " | ".join(f"{s.right / s.asked:.1%}" for s in found)
        lines.append(f"| {group} | {found[0].asked} | {cells} |")
        if group in ("extraction", "tools"):
            cells = " | ".join(f"{s.well_formed / s.asked:.1%}" for s in found)
            lines.append(f"| {group}: well formed | {found[0].asked} | {cells} |")
    stops = [list(scores.values()) for scores in by_model.values()]
    asked = sum(s.asked for s in stops[0])
    cells = " | ".join(f"{sum(s.stopped for s in own) / asked:.1%}" for own in stops)
    lines.append(f"| clean stop | {asked} | {cells} |")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="+", help="GGUF files")
    parser.add_argument("--command", default="l4 run", help="the program to ask")
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--longest", type=int, default=32768, help="longest reading document")
    parser.add_argument("--only", default="", help="only groups whose name begins so: 'reading, 8'")
    parser.add_argument("--share", type=float, default=1.0, help="ask only a part of the questions")
    parser.add_argument("--wrong", type=int, default=0, help="show so many wrong answers a group")
    return parser.parse_args()


def main() -> None:
    options = parse()
    rng = Random(options.seed)
    every = questions(options.seed, options.longest)
    asked = [question for question in every if rng.random() < options.share]
    asked = [question for question in asked if question.group.startswith(options.only)]
    by_model = {}
    for model in options.models:
        by_model[model.stem] = evaluate(options.command.split(), model, asked)
        for group, score in by_model[model.stem].items():
            for question, answer, text in score.wrong[: options.wrong]:
                print(f"{group}: {question!r}\n  due {answer!r}\n  got {text!r}")
    print(table(by_model))


if __name__ == "__main__":
    main()
