"""One model that has read documents, and the questions put to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from l4cli.ask.answering import Answer, answer
from l4cli.ask.prompt import DocumentPrompt
from l4cli.ask.reading import Reading, read
from l4cli.llm import LLM
from l4cli.store.catalogue import StoredDocument, note_document


@dataclass(slots=True)
class AskSession:
    """Reads the prompt's documents once, then answers. `sampling` as for `LLM.request`."""

    llm: LLM
    prompt: DocumentPrompt
    sampling: Mapping[str, Any]
    use_store: bool = True
    reading: Reading | None = None
    started: float = field(default_factory=time.perf_counter)

    def read(self, on_progress: Callable[[int], None] = lambda done: None) -> Reading:
        """Have the documents in the context; see `reading.read`."""
        self.started = time.perf_counter()
        reading = read(
            self.llm, self.prompt.prefix, use_store=self.use_store, on_progress=on_progress
        )
        self.reading = reading
        if self.use_store and self.llm.states and not reading.exit_code:
            note_document(
                self.llm.states,
                StoredDocument(
                    names=tuple(document.name for document in self.prompt.documents),
                    model=self.llm.name,
                    num_tokens=len(self.prompt.prefix),
                ),
                self.prompt.prefix,
            )
        return reading

    def ask(
        self,
        questions: Sequence[str],
        on_text: Callable[[int, str], None] = lambda index, text: None,
    ) -> Iterator[Answer]:
        """Answers in order; see `answering.answer`."""
        return answer(self.llm, self.prompt, questions, self.sampling, on_text=on_text)
