"""Texts that the user attaches: they go before the next question. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from l4cli.chat.history.conversation import Message, joined
from l4cli.documents.document import Document
from l4cli.documents.prompt import shown


@dataclass(frozen=True, slots=True)
class Attachment:
    """A text that goes before the next question.

    name: the name to show the user.
    num_tokens: tokens of `text` by itself.
    document: the document that `text` was made from; None for a plain text.
    """

    name: str
    text: str
    num_tokens: int
    document: Document | None = None


def documents_of(attachments: Sequence[Attachment]) -> list[Document]:
    """Return the documents among `attachments`, in order."""
    return [one.document for one in attachments if one.document]


def question(text: str, attachments: Sequence[Attachment], *, is_first: bool) -> Message:
    """Return the user message that asks `text`, with the attachments before it.

    In the first message of a conversation (`is_first`) the documents come before everything else
    and are tokenized separately from the rest. They then give the same tokens as in `l4 ask`, so
    that chat and ask share the stored prefix.
    """
    documents = documents_of(attachments)
    if not (is_first and documents):
        return Message("user", joined([*(one.text for one in attachments), text]))
    heads = shown(documents)
    rest = joined([*(one.text for one in attachments if not one.document), text])
    return Message("user", "".join(heads) + rest, cuts=tuple(accumulate(map(len, heads))))
