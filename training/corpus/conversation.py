"""What a generator returns: a conversation, and what training must know about its answers."""

from typing import Any, NamedTuple

from typing_extensions import NotRequired, TypedDict

from training.corpus.facts import Fact

Message = dict[str, str]  # {"role": "user", "content": "…"}


class FunctionRequest(NamedTuple):
    """A request for a function.

    words: the request up to its noun, which is what must be read to know whether a function fits.
    function: the name of the function that fits, or None.
    """

    words: str
    function: str | None


class Conversation(TypedDict):
    """A conversation.

    messages: as the chat template takes them.
    tools: the functions that are offered.
    facts: the facts in the document (reading).
    answers: for each answer the fact that it states; None if the document does not say (reading).
    requests: for each answer the request that it answers; None if that is about something else
        (tools, only to train on).
    """

    messages: list[Message]
    tools: NotRequired[list[dict[str, Any]]]
    facts: NotRequired[list[Fact]]
    answers: NotRequired[list[Fact | None]]
    requests: NotRequired[list[FunctionRequest | None]]


def turn(question: str, answer: str) -> list[Message]:
    """Return the messages of one question and its answer."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
