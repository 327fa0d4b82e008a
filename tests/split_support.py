"""A fake model for documents that are read in parts, with its documents and prompts."""

from __future__ import annotations

import re
from collections.abc import Callable

from fakes import FakeBackend, FakeVocabulary

from l4cli.ask.split_journal import SplitJournal
from l4cli.ask.split_run import Findings, SplitRun
from l4cli.documents import Document
from l4cli.documents.markdown import headings_of
from l4cli.loading.llm import LLM

QUESTION = "Which facts are there?"


def book(num_sections: int, name: str = "book.md") -> Document:
    """Return a document whose even-numbered sections each contain one fact."""
    sections = [
        f"# Section {n}\n\n" + (f"The fact is F{n}.\n\n" if n % 2 == 0 else "") + "filler " * 120
        for n in range(num_sections)
    ]
    text = "\n\n".join(sections)
    return Document(name, text, headings=headings_of(text), has_lines=True)


def reader(prompt: str) -> str:
    """Answer like a model: with the facts in a part, or those in the notes to merge or use."""
    facts = " ".join(re.findall(r"F\d+", prompt))
    if "one part of what there is" in prompt:
        return facts or "NOTHING"
    return facts if "Merge them" in prompt else f"These: {facts}"


class Recorder:
    """A fake model that records its prompts; `say` returns its answer to a prompt."""

    def __init__(self, say: Callable[[str], str] = reader, n_ctx: int = 2000) -> None:
        self.prompts: list[str] = []
        self.say = say
        self.backend = FakeBackend(n_ctx=4 * n_ctx, n_batch=4096, answer=self._answer)
        self.backend.n_ctx_seq = n_ctx
        self.backend.num_used_cells = lambda: 0  # counting takes seconds for prompts this long
        self.llm = LLM("fake", FakeVocabulary(), self.backend)

    def _answer(self, prompt: str) -> str:
        if not self.prompts or self.prompts[-1] != prompt:
            self.prompts.append(prompt)
        return self.say(prompt)

    @property
    def num_read(self) -> int:
        """The number of different prompts for notes on parts."""
        return len({prompt for prompt in self.prompts if "one part of what there is" in prompt})


def read(
    recorder: Recorder, documents: list[Document], questions: tuple[str, ...] = (QUESTION,)
) -> list[Findings]:
    run = SplitRun(recorder.llm, documents, max_answer=400)
    with SplitJournal(run.journal_path(questions)) as journal:
        return run.read(questions, journal)
