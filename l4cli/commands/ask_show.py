"""What `l4 ask` shows: the numbers before reading, and the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from l4cli import console
from l4cli.errors import EXIT_FAILED, EXIT_OK, ContextOverflowError

if TYPE_CHECKING:
    from l4cli.ask.answering import Answer
    from l4cli.ask.preflight import Preflight
    from l4cli.ask.session import AskSession
    from l4cli.documents import Document


def report(told: Preflight, documents: Sequence[Document], json: bool) -> None:
    """The numbers on stdout; what would work, where it does not fit, on stderr."""
    from l4cli.ask.preflight import lines

    names = [document.name for document in documents]
    if json:
        console.data_json({"documents": names, **told.as_json()})
    else:
        console.table(["READING", "TAKES"], lines(told, names))
    try:
        told.check()
    except ContextOverflowError as error:
        console.note(f"l4: {error}")


def answers(session: AskSession, questions: Sequence[str], json: bool = False) -> int:
    """Ask, and show the answers on stdout as they come, or as JSON at the end; the exit code."""
    printer = _Printer(questions)
    done, code = [], EXIT_OK
    for index, answer in enumerate(session.ask(questions, _silent if json else printer.write)):
        done.append(answer)
        if not json:
            printer.end(index)
        code = max(code, _explain(answer))
    if json:
        console.data_json(_as_json(session, done))
    return code


class _Printer:
    """Answers as text: of several each under its question, as Markdown has it."""

    def __init__(self, questions: Sequence[str]) -> None:
        self._questions = questions
        self._is_terminal = console.stdout_is_terminal()
        self._last = "\n"  # character written
        self._headed = -1

    def write(self, index: int, text: str) -> None:
        self._head(index)
        self._put(text)

    def end(self, index: int) -> None:
        """The answer is whole, perhaps empty: leave the cursor on a line of its own."""
        self._head(index)
        self._put("" if self._last == "\n" else "\n")

    def _head(self, index: int) -> None:
        if index == self._headed or len(self._questions) == 1:
            return
        self._headed = index
        self._put(("\n" if index else "") + f"## {self._questions[index]}\n\n")

    def _put(self, text: str) -> None:
        if text:
            console.data(console.harmless(text) if self._is_terminal else text, end="")
            self._last = text[-1]


def _silent(_index: int, _text: str) -> None: ...


def _explain(answer: Answer) -> int:
    """Say why an answer is not whole; the exit code that this means."""
    if answer.exit_code:
        return answer.exit_code
    if answer.error:
        console.note(f"l4: {answer.question}: {answer.error}")
        return EXIT_FAILED
    if answer.finish_reason == "length":
        console.note(f"l4: the answer was cut off after {len(answer.token_ids):,} tokens (-n)")
    return EXIT_OK


def _as_json(session: AskSession, answers: Sequence[Answer]) -> dict[str, Any]:
    reading = session.reading
    assert reading is not None
    return {
        "model": session.llm.name,
        "documents": [document.name for document in session.prompt.documents],
        "reading": {
            "tokens": reading.num_tokens,
            "restored": reading.num_restored_tokens,
            "restore_seconds": round(reading.restore_seconds, 4),
            "prefill_seconds": round(reading.prefill_seconds, 4),
            "bytes_saved": reading.num_bytes_saved,
        },
        "answers": [
            {
                "question": answer.question,
                "answer": answer.text,
                "finish_reason": answer.finish_reason,
                "prompt_tokens": answer.num_prompt_tokens,
                "cached_tokens": answer.num_cached_tokens,
                "completion_tokens": len(answer.token_ids),
                "ttft": round(answer.ttft, 4),
                "seconds": round(answer.seconds, 4),
                **({"error": answer.error} if answer.error else {}),
            }
            for answer in answers
        ],
    }
