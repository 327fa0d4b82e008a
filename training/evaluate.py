"""Asks GGUF models the held-out side of the corpus through `l4 run`, and prints a table of results:

    python -m training.evaluate F32.gguf Q8_0.gguf Q4_K_M.gguf

An answer is right if it equals the expected one, character by character. No torch is needed here.
"""

import argparse
import ast
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from training import corpus
from training.corpus import guide, reading, tools
from training.corpus.conversation import Conversation
from training.corpus.reading import CHARS_PER_TOKEN

# Conversations of each skill; a conversation may have several answers.
COUNTS = {"extraction": 300, "tools": 300, "manner": 200}
# For each group of reading: the length that the generator is given, the number of documents, and
# the questions on each (l4 prefills a document once for all of them). The generator counts
# characters: a document has about four fifths of the tokens it is given, up to a third more or
# less, since names take more tokens than plain words.
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
    """A conversation up to a question, and the answer that is expected.

    group: the row of the table.
    """

    group: str
    conversation: Conversation
    answer: str


@dataclass
class Score:
    """What was right in one group.

    stopped: answers that ended with the end-of-turn token.
    wrong: the end of the question, the expected answer and the model's answer.
    """

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
    """Whether an extraction is a JSON object, and expected calls are a list of Python calls."""
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


def single(group: str, pairs: Iterable[tuple[str, str]]) -> Iterator[Question]:
    """Yield each pair of question and answer."""
    for question, answer in pairs:
        messages = [{"role": "user", "content": question}]
        yield Question(group, Conversation(messages=messages), answer)


def each_turn(group: str, conversation: Conversation) -> Iterator[Question]:
    """Yield a question for each answer; the messages before it are given as they should be."""
    messages = conversation["messages"]
    for i, message in enumerate(messages):
        if message["role"] == "assistant":
            asked = conversation.copy()
            asked["messages"] = messages[:i]
            yield Question(group, asked, message["content"])


def questions(seed: int, longest: int) -> Iterator[Question]:
    """Yield all questions of the evaluation; reading documents have up to `longest` tokens."""
    rng = Random(f"{seed}/evaluate")
    yield from single("guide, known", guide.known())
    yield from single("guide, unseen", guide.unseen())
    for skill, count in COUNTS.items():
        for _ in range(count):
            yield from each_turn(skill, corpus.conversation(skill, rng, corpus.HELD_OUT))
    for tokens, (size, documents, each) in READING.items():
        for _ in range(documents if tokens <= longest else 0):
            for conversation in reading.conversations(rng, corpus.HELD_OUT, size, each):
                yield from each_turn(f"reading, {tokens}", conversation)


def ask(command: list[str], model: Path, asked: list[Question], n_ctx: int) -> list[dict[str, Any]]:
    """Return the output rows of `l4 run`; their ids are indices of the questions."""
    with TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        with rows.open("w", encoding="utf8") as file:
            for number, question in enumerate(asked):
                row: dict[str, Any] = {"id": str(number), **question.conversation}
                row |= {"max_tokens": MAX_TOKENS, "temperature": 0}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        full = [*command, str(rows), "--model", str(model), "--ctx", str(n_ctx)]
        done = subprocess.run(full, stdout=subprocess.PIPE, check=False)
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(full)} ended with {done.returncode}")
    return [json.loads(line) for line in done.stdout.decode("utf8").split("\n") if line]


def as_text(message: dict[str, Any]) -> str:
    """Return an answer as the model wrote it; `l4 run` returns calls parsed."""
    functions = [call["function"] for call in message.get("tool_calls", [])]
    calls = [tools.written(f["name"], json.loads(f["arguments"])) for f in functions]
    return f"[{', '.join(calls)}]" if calls else message.get("content") or ""


def evaluate(command: list[str], model: Path, asked: list[Question]) -> dict[str, Score]:
    """Return the scores of one model by group."""
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
    """Return the scores of several models as a Markdown table."""
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
    parser = argparse.ArgumentParser(description="Asks GGUF models the held-out side.")
    parser.add_argument("models", type=Path, nargs="+", help="GGUF files")
    parser.add_argument("--command", default="l4 run", help="the command to ask with")
    parser.add_argument("--seed", type=int, default=4, help="of the questions")
    parser.add_argument("--longest", type=int, default=32768, help="tokens of the longest document")
    parser.add_argument(
        "--only", default="", help="only groups whose name begins so, e.g. 'reading'"
    )
    parser.add_argument(
        "--share", type=float, default=1.0, help="the share of the questions to ask"
    )
    parser.add_argument("--wrong", type=int, default=0, help="wrong answers of each group to print")
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
                print(f"{group}: {question!r}\n  expected {answer!r}\n  got {text!r}")
    print(table(by_model))


if __name__ == "__main__":
    main()
