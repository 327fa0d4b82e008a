"""Files and documents that go before the next question. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from l4cli.chat.history.conversation import Message, joined
from l4cli.documents.document import Document
from l4cli.documents.prompt import shown


@dataclass(frozen=True, slots=True)
class Attachment:
    """A text that goes before the next question; `document` is what it is of, if it is one."""

    name: str
    text: str
    num_tokens: int
    document: Document | None = None


def documents_of(attachments: Sequence[Attachment]) -> list[Document]:
    return [one.document for one in attachments if one.document]


def question(text: str, attachments: Sequence[Attachment], *, is_first: bool) -> Message:
    """The message that asks `text`, with what is attached before it.

    In the first one of a conversation documents stand in front of all else, and are tokenized apart
    from it: as `l4 ask` has them.
    """
    documents = documents_of(attachments)
    if not (is_first and documents):
        return Message("user", joined([*(one.text for one in attachments), text]))
    heads = shown(documents)
    rest = joined([*(one.text for one in attachments if not one.document), text])
    return Message("user", "".join(heads) + rest, cuts=tuple(accumulate(map(len, heads))))
