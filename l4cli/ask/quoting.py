"""Quotations behind answers: forced by a grammar to be the documents' words, and proved to be.

The answer comes first and freely, as it would without them. Then the question is put once more,
with the request for quotations and with that answer, behind which nothing but passages of the
documents can follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from l4cli.ask.answering import QuestionAnswer
from l4cli.ask.completions import complete
from l4cli.documents.document import Document
from l4cli.documents.quotes import QUOTE_MARK, QUOTES_LEAD, Quotes, quote_constraint
from l4cli.engine.types import Request
from l4cli.loading.llm import LLM

MAX_QUOTE_TOKENS = 400  # of all quotations behind one answer
_INSTRUCTION = (
    "Then quote the passages that the answer rests on, word for word, "
    f'each on a line of its own that begins with "{QUOTE_MARK}".'
)


def asking(question: str) -> str:
    """The question with the request for quotations."""
    return f"{question}\n\n{_INSTRUCTION}"


class Quoter:
    """Has answers quote `documents`."""

    def __init__(self, llm: LLM, documents: Sequence[Document]) -> None:
        self._llm = llm
        self._quotes = Quotes(documents)
        self._constraint = quote_constraint([document.text for document in documents])

    def quote(
        self,
        answers: Sequence[QuestionAnswer],
        prompts: Sequence[Sequence[int]],
        stopping: Callable[[], object] = lambda: False,
    ) -> None:
        """Enter the quotations of whole answers in them; `prompts` (token ids) ask for those.

        StoppedEarly soon after `stopping` has become true.
        """
        requests = [
            self._request(f"quotations {index}", tokens, answer)
            for index, (answer, tokens) in enumerate(zip(answers, prompts, strict=True))
            if answer.finish_reason == "stop"
        ]
        for done in complete(self._llm, requests, stopping):
            answer = answers[int(done.request_id.rpartition(" ")[2])]
            lines = done.text.split("\n")
            if done.finish_reason == "length" and len(lines) > 1:
                lines.pop()  # a passage that was cut off
            texts = [line.removeprefix(QUOTE_MARK.strip()).strip() for line in lines]
            answer.quotations = [self._quotes.find(text) for text in texts if text]

    def _request(self, id: str, tokens: Sequence[int], answer: QuestionAnswer) -> Request:
        said = self._llm.vocabulary.tokenize(answer.text.strip() + QUOTES_LEAD)
        params = self._llm.params(
            temperature=0.0, max_tokens=MAX_QUOTE_TOKENS, constraint=self._constraint
        )
        return Request(id, (*tokens, *said), params)
