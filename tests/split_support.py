"""A fake model that reads documents in parts, and what it is asked."""

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
    """A section holds a fact if its number is even."""
    sections = [
        f"# Section {n}\n\n" + (f"The fact is F{n}.\n\n" if n % 2 == 0 else "") + "filler " * 120
        for n in range(num_sections)
    ]
    text = "\n\n".join(sections)
    return Document(name, text, headings=headings_of(text), has_lines=True)


def reader(prompt: str) -> str:
    """What a model would say: facts on a part, all facts when notes are merged or answered from."""
    facts = " ".join(re.findall(r"F\d+", prompt))
    if "one part of what there is" in prompt:
        return facts or "NOTHING"
    return facts if "Merge them" in prompt else f"These: {facts}"


class Recorder:
    """A fake model that counts what it is asked; `say` is its answer to a prompt."""

    def __init__(self, say: Callable[[str], str] = reader, n_ctx: int = 2000) -> None:
        self.prompts: list[str] = []
        self.say = say
        self.backend = FakeBackend(n_ctx=4 * n_ctx, n_batch=4096, answer=self._answer)
        self.backend.n_ctx_seq = n_ctx
        self.backend.num_used_cells = lambda: 0  # its account takes seconds for prompts this long
        self.llm = LLM("fake", FakeVocabulary(), self.backend)

    def _answer(self, prompt: str) -> str:
        if not self.prompts or self.prompts[-1] != prompt:
            self.prompts.append(prompt)
        return self.say(prompt)

    @property
    def num_read(self) -> int:
        """How many parts were asked about."""
        return len({prompt for prompt in self.prompts if "one part of what there is" in prompt})


def read(
    recorder: Recorder, documents: list[Document], questions: tuple[str, ...] = (QUESTION,)
) -> list[Findings]:
    run = SplitRun(recorder.llm, documents, max_answer=400)
    with SplitJournal(run.journal_path(questions)) as journal:
        return run.read(questions, journal)
