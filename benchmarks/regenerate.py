"""Check that a greedy /regen gives the same answer, at once and after `l4 chat -c`.

    python -m benchmarks.regenerate [--model demo] [--chats 200] [--threads 2]

Chats of one to four random questions are answered greedily. Some answer their last question again
at once; then another chat takes the KV cache, the first one is opened again from its file, and
answers its last question once more. The tokens and their logprobs are compared with those of the
first answer. Prints each difference, then one JSON line.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.shared import make_parser

WORDS = ("valve", "pump", "gauge", "filter", "harbour", "engine", "copper", "winter", "red", "four")


class NoView:
    """Shows nothing of an answer."""

    def __init__(self, _text: str) -> None: ...
    def progress(self, done: int, total: int) -> None: ...
    def write(self, text: str) -> None: ...
    def close(self) -> None: ...


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--chats", type=int, default=200)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # A reading cache of its own: one that holds the same chats from other batches would be
        # restored instead.
        os.environ |= {"XDG_STATE_HOME": folder, "XDG_CACHE_HOME": folder}
        counts = compare(options.model, options.chats, options.threads)
    print(json.dumps(counts))


def compare(model: str, num_chats: int, threads: int | None) -> dict[str, Any]:
    """Return how many answers were made again at once and later, and how many were others."""
    from l4cli import load
    from l4cli.chat.history.session_file import SessionFile, new_session_path
    from l4cli.chat.session import ChatSession
    from l4cli.engine.answer import Answer

    logprobs: dict[int, list[float]] = {}
    answers: list[Answer] = []  # kept, so that their ids stay theirs
    take = Answer.take

    def noting(self: Answer, output: Any, seconds: float) -> str:
        answers.append(self)
        logprobs.setdefault(id(self), []).extend(each.logprob for each in output.logprobs)
        return take(self, output, seconds)

    class Greedy(ChatSession):
        def params(self) -> Any:
            return replace(super().params(), temperature=0.0, max_tokens=24, logprobs=1)

    Answer.take = noting  # type: ignore[method-assign]
    draw = random.Random(0)
    known = [json.loads(line) for line in (ROOT / "examples/prompts.jsonl").open()]
    questions = [row["prompt"] for row in known if "prompt" in row]
    counts = {"at once": 0, "later": 0, "different": 0}
    with load(model, ctx=4096, store=True, threads=threads, parallel=1) as llm:

        def question() -> str:
            noise = " ".join(draw.choice(WORDS) for _ in range(draw.randrange(150)))
            return f"{noise} {draw.choice(questions)}"

        def again(session: ChatSession, first: Answer, when: str) -> None:
            second = session.regenerate()
            counts[when] += 1
            if first.token_ids != second.token_ids or logprobs[id(first)] != logprobs[id(second)]:
                counts["different"] += 1
                print(
                    f"{when}: {first.text!r} became {second.text!r}; {first.num_cached_tokens} and "
                    f"{second.num_cached_tokens} of {first.num_prompt_tokens} tokens were cached"
                )

        for _ in range(num_chats):
            file = SessionFile(new_session_path())
            session = Greedy(llm, NoView, file=file)
            for _ in range(draw.randint(1, 4)):
                first = session.ask(question())
            if draw.random() < 0.5:
                again(session, first, "at once")
            session.close()
            other = Greedy(llm, NoView)
            other.ask(question())
            other.close()
            session = Greedy(llm, NoView, file=SessionFile(Path(file.path), is_named=True))
            again(session, first, "later")
            session.close()
    return counts


if __name__ == "__main__":
    main()
