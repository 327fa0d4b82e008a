"""Adds quotations to answers: a grammar forces them to be word for word from the documents.

First the answer is generated without a constraint, as it would be without quotations. Then the
question is asked again, with an instruction to quote, and with that answer as the beginning of the
reply. What follows is constrained to passages of the documents: those with the most of the answer's
numbers, names and rare words, if any has some. An answer that says it does not know gets none.
Finally each quotation is located in the documents, which proves that it is there, and compared with
the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from l4cli.ask.answering import QuestionAnswer
from l4cli.ask.completions import complete
from l4cli.documents.backing import WordCounts, says_unknown, shared
from l4cli.documents.document import Document
from l4cli.documents.quotes import (
    QUOTE_MARK,
    QUOTES_LEAD,
    Quotation,
    Quotes,
    passages_sharing,
    quote_constraint,
)
from l4cli.engine.types import Request
from l4cli.loading.llm import LLM

MAX_QUOTE_TOKENS = 400  # for all quotations of one answer
_INSTRUCTION = (
    "Then quote the passages that the answer rests on, word for word, "
    f'each on a line of its own that begins with "{QUOTE_MARK}".'
)


def asking(question: str) -> str:
    """Return the question with the instruction to quote."""
    return f"{question}\n\n{_INSTRUCTION}"


class Quoter:
    """Generates quotations from `documents` for answers."""

    def __init__(self, llm: LLM, documents: Sequence[Document]) -> None:
        self._llm = llm
        self._quotes = Quotes(documents)
        self._texts = [document.text for document in documents]
        self._constraint = quote_constraint(self._texts)
        self._counts = WordCounts(document.text for document in documents)

    def quote(
        self,
        answers: Sequence[QuestionAnswer],
        prompts: Sequence[Sequence[int]],
        stopping: Callable[[], object] = lambda: False,
    ) -> None:
        """Set `quotations` of every answer whose finish_reason is "stop" and that knows something.

        If sentences have the answer's numbers, names or rare words, those with the most are quoted.

        answers: the answers.
        prompts: for each answer, the token ids of its question with the instruction to quote.
        stopping: stops the work once it is true.

        Raises StoppedEarly soon after `stopping` has become true.
        """
        requests = [
            self._request(f"quotations {index}", tokens, answer)
            for index, (answer, tokens) in enumerate(zip(answers, prompts, strict=True))
            if answer.finish_reason == "stop" and not says_unknown(answer.text)
        ]
        for done in complete(self._llm, requests, stopping):
            answer = answers[int(done.request_id.rpartition(" ")[2])]
            lines = done.text.split("\n")
            if done.finish_reason == "length" and len(lines) > 1:
                lines.pop()  # this passage was cut off
            texts = [line.removeprefix(QUOTE_MARK.strip()).strip() for line in lines]
            answer.quotations = [self._found(text, answer) for text in texts if text]

    def _found(self, text: str, answer: QuestionAnswer) -> Quotation:
        found = self._quotes.find(text)
        return replace(found, shared=shared(answer.text, text, answer.question, self._counts))

    def _request(self, id: str, tokens: Sequence[int], answer: QuestionAnswer) -> Request:
        said = self._llm.encoder.begun(answer.text.strip() + QUOTES_LEAD)
        best = passages_sharing(self._texts, answer.text, answer.question, self._counts)
        constraint = quote_constraint(best) if best else self._constraint
        params = self._llm.params(
            temperature=0.0, max_tokens=MAX_QUOTE_TOKENS, constraint=constraint
        )
        return Request(id, (*tokens, *said), params)
