"""A session of `l4 ask --split`: reads documents in parts, and answers from the notes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from l4cli import console
from l4cli.ask.answering import QuestionAnswer, answer
from l4cli.ask.completions import StoppedEarly
from l4cli.ask.quoting import MAX_QUOTE_TOKENS, Quoter
from l4cli.ask.split_journal import SplitJournal
from l4cli.ask.split_preflight import SplitDemand
from l4cli.ask.split_run import Findings, Progress, SplitRun
from l4cli.documents.document import Document
from l4cli.loading.llm import LLM
from l4cli.signals import GivenUpError, catch_interrupts


class SplitSession:
    """Reads documents in parts for given questions, then answers the questions.

    llm: the model.
    documents: the documents.
    sampling: sampling arguments for the answers, as for `LLM.request`. Must contain max_tokens.
    system: the system message of every prompt; None for none.
    quotes: add quotations from the documents to the answers.

    The attribute `progress` tells how far `read` is; `exit_code` is set if a signal ended it.
    """

    def __init__(
        self,
        llm: LLM,
        documents: Sequence[Document],
        sampling: Mapping[str, Any],
        *,
        system: str | None = None,
        quotes: bool = False,
    ) -> None:
        self.llm = llm
        self.documents = list(documents)
        self.quotes = quotes
        self.exit_code = 0
        self.progress = Progress(0, 0, 0)
        self._quoter: Quoter | None = None
        self._sampling = dict(sampling)
        self._max_tokens = int(self._sampling.pop("max_tokens"))
        room = self._max_tokens + (MAX_QUOTE_TOKENS if quotes else 0)
        self._run = SplitRun(llm, documents, max_answer=room, system=system)
        self._findings: list[Findings] = []

    def demand(self, questions: Sequence[str]) -> SplitDemand:
        """Return what reading for these questions will take, without the quotations."""
        return self._run.demand(questions)

    def read(
        self, questions: Sequence[str], on_progress: Callable[[Progress], None] = lambda done: None
    ) -> None:
        """Take notes on every part for every question.

        The notes are kept until all answers have been given, so the same command continues where
        it stopped. Raises StoppedEarly after Ctrl-C or SIGTERM.
        """
        with (
            SplitJournal(self._run.journal_path(questions)) as journal,
            catch_interrupts(self.llm.interrupt, console.show_stopping) as interrupts,
        ):

            def on_note(progress: Progress) -> None:
                self.progress = progress
                on_progress(progress)

            def stopping() -> object:
                """Called at each step of the engine; shows how far it is."""
                on_progress(replace(self.progress, in_work=self.llm.engine.share_in_work))
                return interrupts

            try:
                self._findings = self._run.read(
                    questions, journal, stopping=stopping, on_progress=on_note
                )
            except (StoppedEarly, GivenUpError):
                self.exit_code = interrupts.exit_code
                raise StoppedEarly from None

    def ask(
        self,
        questions: Sequence[str],
        on_text: Callable[[int, str], None] = lambda index, text: None,
    ) -> Iterator[QuestionAnswer]:
        """Yield the answers to the questions given to `read`, in order, then delete the notes."""
        for index, findings in enumerate(self._findings):
            request = self._run.answer_request(findings, **self._sampling)
            limit = min(self._max_tokens, request.params.max_tokens or self._max_tokens)
            params = replace(request.params, max_tokens=limit)
            (given,) = answer(
                self.llm,
                [findings.question],
                [request.prompt],
                params,
                on_text=lambda _, text, index=index: on_text(index, text),  # type: ignore[misc]
            )
            given.coverage = findings.coverage
            if self.quotes:
                self._quote(given, request.prompt)
            yield given
            if given.exit_code:
                return
        with SplitJournal(self._run.journal_path(questions)) as journal:
            journal.discard()

    def _quote(self, given: QuestionAnswer, prompt: Sequence[int]) -> None:
        self._quoter = self._quoter or Quoter(self.llm, self.documents)
        with catch_interrupts(self.llm.interrupt, console.show_stopping) as interrupts:
            try:
                self._quoter.quote([given], [prompt], lambda: interrupts)
            except (StoppedEarly, GivenUpError):
                given.exit_code = interrupts.exit_code

    def as_json(self) -> dict[str, Any]:
        """Return the names of the model and the documents."""
        return {"model": self.llm.name, "documents": [one.name for one in self.documents]}
