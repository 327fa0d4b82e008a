"""Documents and a question as one user message, the documents first.

They are tokenized apart from each other and from the question: so the same documents are the same
tokens whatever is asked, and what comes first is shared with other lists that begin alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from l4cli.documents.document import Document
from l4cli.prompt import PromptEncoder

_GAP = "\n\n"


class DocumentPrompt:
    """A prompt about documents, that any question can end.

    `encoder` may be replaced by another of the same model.
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
        """The whole prompt, up to where the answer begins."""
        return self.prefix + self.question(question)

    def question(self, question: str) -> tuple[int, ...]:
        """What a question adds to the documents."""
        _, end = self.encoder.chat_in_sections(["-", question.strip()], **self._around)
        return tuple(end)


def shown(documents: Sequence[Document]) -> list[str]:
    """The texts as the model reads them: one as it is, of several each under its name."""
    if len(documents) == 1:
        return [documents[0].text.strip() + _GAP]
    return [
        f'<document name="{PurePath(document.name).name}">\n{document.text.strip()}\n</document>'
        + _GAP
        for document in documents
    ]
