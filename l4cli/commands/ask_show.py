"""What `l4 ask` shows: the report of --dry-run, and the answers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from l4cli import console
from l4cli.commands import stopped
from l4cli.commands.one_answer import cut_off, value_of
from l4cli.errors import EXIT_FAILED, EXIT_OK, ContextOverflowError

if TYPE_CHECKING:
    from l4cli.ask.answering import QuestionAnswer
    from l4cli.ask.preflight import Preflight
    from l4cli.ask.session import AskSession
    from l4cli.ask.split_preflight import SplitPreflight
    from l4cli.ask.split_session import SplitSession
    from l4cli.chat.turn import AnswerView
    from l4cli.documents import Document
    from l4cli.documents.quotes import Quotation


_NOTHING_SHARED = "check this quotation: it has none of the answer's numbers and names"


def report(told: Preflight, documents: Sequence[Document], json: bool) -> None:
    """Write the preflight to stdout. If it does not fit, write what would help to stderr."""
    from l4cli.ask.preflight import lines

    names = [document.name for document in documents]
    if json:
        console.data_json({"documents": names, **told.as_json()})
    else:
        console.table(["READING", "NEEDS"], lines(told, names))
    try:
        told.check()
    except ContextOverflowError as error:
        console.warn(str(error))


def split_report(told: SplitPreflight, documents: Sequence[Document], json: bool) -> None:
    """Write the preflight of --split to stdout."""
    from l4cli.ask.split_preflight import lines

    names = [document.name for document in documents]
    if json:
        console.data_json({"documents": names, **told.as_json()})
    else:
        console.table(["READING IN PARTS", "NEEDS"], lines(told, names))


@dataclass(frozen=True, slots=True)
class Show:
    """How answers are shown.

    json: as JSON, at the end; otherwise as text, while it is generated.
    has_schema: whether answers are values of a schema, which JSON then has as such.
    markdown: whether a terminal gets answers drawn as Markdown. Values never are.
    """

    json: bool = False
    has_schema: bool = False
    markdown: bool = True


def answers(session: AskSession | SplitSession, questions: Sequence[str], how: Show) -> int:
    """Ask the questions, write the answers to stdout, and return the exit code."""
    json, has_schema = how.json, how.has_schema
    printer = _Printer(questions, markdown=how.markdown and not has_schema)
    streams = not json and not (session.quotes and len(questions) > 1)
    done, code = [], EXIT_OK
    with printer.showing() if not json else nullcontext():
        given = session.ask(questions, printer.write if streams else _silent)
        for index, answer in enumerate(given):
            done.append(answer)
            if not json and (answer.text or not answer.exit_code):
                printer.write(index, "" if streams else answer.text)
                printer.end(index, answer.quotations)
            code = max(code, _explain(answer))
            if has_schema and answer.finish_reason == "length":
                code = max(code, EXIT_FAILED)
    if note := stopped.while_answering(done, len(questions)):
        console.warn(note)
    if json:
        shown = [_as_json(one) for one in done]
        if has_schema:
            shown = [{**one, "parsed": value_of(one["answer"])} for one in shown]
        console.data_json({**session.as_json(), "answers": shown})
    return code


class _Printer:
    """Writes answers as text; each of several questions is a Markdown heading above its answer.

    A terminal gets them drawn as Markdown, as in a chat; one without cursor control gets them
    folded at words, and a pipe as they are.

    markdown: whether answers are Markdown.
    """

    def __init__(self, questions: Sequence[str], *, markdown: bool = True) -> None:
        self._questions = questions
        self._last = "\n"  # the last character written
        self._headed = -1  # index of the last question written as a heading
        is_terminal = console.stdout_is_terminal()
        self._draws = markdown and is_terminal and console.moves_cursor()
        self._view: AnswerView | None = None  # of the answer that is being drawn
        self._folder = console.Folder(shutil.get_terminal_size().columns) if is_terminal else None

    @contextmanager
    def showing(self) -> Iterator[None]:
        """The context in which answers are written."""
        from l4cli.chat.tty import echo_off

        with echo_off() if self._draws else nullcontext():
            try:
                yield
            finally:
                self._close()

    def write(self, index: int, text: str) -> None:
        self._head(index)
        self._put(text)

    def end(self, index: int, quotations: Sequence[Quotation]) -> None:
        """End the answer's line and write its quotations. The answer may be empty."""
        self._head(index)
        if self._draws:
            self._close()
        else:
            if self._folder:
                console.data(self._folder.flush(), end="")
            self._put("" if self._last == "\n" else "\n")
        for one in quotations:
            mark = "" if one.is_proved else "unproved: "
            doubt = "" if one.shared != () else f"; {_NOTHING_SHARED}"
            console.data("")
            console.paragraph(one.text, first="> ", rest="> ")
            console.paragraph(f"({mark}{one}{doubt})")

    def _head(self, index: int) -> None:
        if index == self._headed or len(self._questions) == 1:
            return
        self._headed = index
        if index and self._draws:
            console.data("")
        blank = "\n" if index and not self._draws else ""
        self._put(f"{blank}## {self._questions[index]}\n\n")

    def _put(self, text: str) -> None:
        if not text:
            return
        if self._draws:
            self._view = self._view or _drawing_view()
            self._view.write(text)
        else:
            console.data(self._folder.feed(text) if self._folder else text, end="")
        self._last = text[-1]

    def _close(self) -> None:
        if self._view:
            self._view.close()
        self._view = None


def _drawing_view() -> AnswerView:
    from l4cli.chat.terminal.render import view_for_stdout

    return view_for_stdout(markdown=True)("")


def _silent(_index: int, _text: str) -> None: ...


def _explain(answer: QuestionAnswer) -> int:
    """Write why an answer is incomplete, if it is; return the exit code for it."""
    if answer.exit_code:
        return answer.exit_code
    if answer.error:
        console.warn(f"{answer.question}: {answer.error}")
        return EXIT_FAILED
    if answer.finish_reason == "length":
        console.warn(cut_off(answer))
    if answer.coverage:
        for line in answer.coverage.lines():
            console.warn(line)
        if not answer.coverage.is_whole:
            return EXIT_FAILED
    return EXIT_OK if all(one.is_proved for one in answer.quotations) else EXIT_FAILED


def _as_json(answer: QuestionAnswer) -> dict[str, Any]:
    found: dict[str, Any] = {
        "question": answer.question,
        "answer": answer.text,
        "finish_reason": answer.finish_reason,
        "prompt_tokens": answer.num_prompt_tokens,
        "cached_tokens": answer.num_cached_tokens,
        "completion_tokens": len(answer.token_ids),
        "ttft": round(answer.ttft, 4),
        "seconds": round(answer.seconds, 4),
    }
    if answer.error:
        found["error"] = answer.error
    if answer.quotations:
        found["quotations"] = [_quotation(one) for one in answer.quotations]
    if coverage := answer.coverage:
        found["coverage"] = {
            "parts": coverage.num_parts,
            "parts_read": coverage.num_read,
            "tokens": coverage.num_tokens,
            "notes": coverage.num_notes,
            "notes_cut": coverage.num_cut,
            "not_read": [str(failure) for failure in coverage.failures],
        }
    return found


def _quotation(one: Quotation) -> dict[str, Any]:
    if one.document is None:
        return {"text": one.text, "proved": False, "shared": one.shared}
    return {
        "text": one.text,
        "proved": True,
        "shared": one.shared,
        "original": one.original,
        "document": one.document.name,
        "page": one.place.page,
        "line": one.place.line,
        "heading": one.place.heading,
        "start": one.start,
        "end": one.end,
    }
