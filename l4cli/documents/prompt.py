"""Makes a prompt of documents and a question: one user message, with the documents first.

Each document and the question are tokenized separately. So the documents' tokens do not depend on
the question, and lists of documents that begin alike share a prefix of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from l4cli.documents.document import Document
from l4cli.prompt import PromptEncoder

_GAP = "\n\n"


class DocumentPrompt:
    """A prompt about documents, to be completed by a question.

    encoder: the model's encoder; may be replaced by another one of the same model.
    documents: in the order of the prompt.
    system: the system message. tools: tools described in the prompt.

    prefix: the tokens of all documents, with everything before them.
    part_lengths: the tokens of each document; the first includes everything before it.
    """

    def __init__(
        self,
        encoder: PromptEncoder,
        documents: Sequence[Document],
        *,
        system: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        self.encoder = encoder
        self._around: dict[str, Any] = {"system": system, "tools": tools}
        self.documents = list(documents)
        parts = encoder.chat_in_sections([*shown(self.documents), ""], **self._around)
        self.part_lengths = [len(part) for part in parts[:-1]]
        self.prefix = tuple(token for part in parts[:-1] for token in part)

    def tokens(self, question: str) -> tuple[int, ...]:
        """Return the whole prompt, up to the beginning of the answer."""
        return self.prefix + self.question(question)

    def question(self, question: str) -> tuple[int, ...]:
        """Return the tokens that follow the documents: the question and the generation prompt."""
        _, end = self.encoder.chat_in_sections(["-", question.strip()], **self._around)
        return tuple(end)


def shown(documents: Sequence[Document]) -> list[str]:
    """Return the documents' texts for the prompt. If there are several, each gets its name."""
    if len(documents) == 1:
        return [documents[0].text.strip() + _GAP]
    return [
        f'<document name="{PurePath(document.name).name}">\n{document.text.strip()}\n</document>'
        + _GAP
        for document in documents
    ]
