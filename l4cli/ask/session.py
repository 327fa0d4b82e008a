"""A session of `l4 ask`: prefills documents once, then answers questions about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from l4cli import console
from l4cli.ask.answering import QuestionAnswer, answer
from l4cli.ask.completions import StoppedEarly
from l4cli.ask.quoting import Quoter, asking
from l4cli.documents.prompt import DocumentPrompt
from l4cli.documents.reading import Reading, read
from l4cli.loading.llm import LLM
from l4cli.signals import GivenUpError, catch_interrupts
from l4cli.speeds import Conditions, OtherWork, is_busy, remember


@dataclass(slots=True)
class AskSession:
    """Prefills documents once, then answers questions about them.

    llm: the model.
    prompt: the documents.
    sampling: sampling arguments, as for `LLM.params`.
    conditions: the key under which the measured prefill rate is kept for later estimates.
    use_store: restore the documents from the reading cache, and save them to it.
    quotes: add quotations from the documents to the answers.
    reading: set by `read`.
    """

    llm: LLM
    prompt: DocumentPrompt
    sampling: Mapping[str, Any]
    conditions: Conditions
    use_store: bool = True
    quotes: bool = False
    reading: Reading | None = None
    _quoter: Quoter | None = None

    def read(self, on_progress: Callable[[int], None] = lambda done: None) -> Reading:
        """Prefill the documents or restore them from the reading cache; see `reading.read`."""
        others = OtherWork()
        with catch_interrupts(self.llm.interrupt, console.show_stopping) as interrupts:
            reading = read(
                self.llm,
                self.prompt,
                use_store=self.use_store,
                on_progress=on_progress,
                stopping=lambda: interrupts,
            )
        reading.exit_code = 0 if reading.is_whole else interrupts.exit_code
        self.reading = reading
        remember(self.conditions, *reading.rates, busy=is_busy(others.load()))
        return reading

    def ask(
        self,
        questions: Sequence[str],
        on_text: Callable[[int, str], None] = lambda index, text: None,
    ) -> Iterator[QuestionAnswer]:
        """Yield the answers in order; see `answering.answer`.

        With `quotes`, no answer is yielded until all answers and their quotations are done.
        """
        prompts = [self.prompt.tokens(question) for question in questions]
        params = self.llm.params_of_answer(**self.sampling)
        found = answer(self.llm, questions, prompts, params, on_text=on_text)
        if not self.quotes:
            yield from found
            return
        answers = list(found)
        prompts = [self.prompt.tokens(asking(question)) for question in questions]
        with catch_interrupts(self.llm.interrupt, console.show_stopping) as interrupts:
            self._quoter = self._quoter or Quoter(self.llm, self.prompt.documents)
            try:
                self._quoter.quote(answers, prompts, lambda: interrupts)
            except (StoppedEarly, GivenUpError):
                answers[-1].exit_code = interrupts.exit_code
        yield from answers

    def as_json(self) -> dict[str, Any]:
        """Return the model, the documents, and the tokens, seconds and bytes of the reading."""
        reading = self.reading
        assert reading is not None
        return {
            "model": self.llm.name,
            "documents": [document.name for document in self.prompt.documents],
            "reading": {
                "tokens": reading.num_tokens,
                "restored": reading.num_restored_tokens,
                "restore_seconds": round(reading.restore_seconds, 4),
                "prefill_seconds": round(reading.prefill_seconds, 4),
                "bytes_saved": reading.num_bytes_saved,
            },
        }
