"""/compact: make room in the context by dropping or summing up the older messages.

The messages that stay become a new branch. Nothing is lost: the old branch is still in the tree.
"""

from __future__ import annotations

from dataclasses import dataclass

from l4cli.amounts import counted
from l4cli.chat.history.conversation import Conversation, Message, joined
from l4cli.chat.history.tree import ROOT, Node
from l4cli.chat.session import ChatSession
from l4cli.engine.answer import Answer
from l4cli.errors import UsageError

_INSTRUCTION = (
    "Sum up our conversation so far, for someone who is to go on with it: what was asked, what was "
    "found and decided, and the names, numbers and code that will be needed. Give the summary only."
)
_SUMMARY_SHARE = 8  # a summary may take up to an eighth of the context
_MAX_SUMMARY = 1024  # tokens


@dataclass(frozen=True, slots=True)
class Cut:
    """A conversation cut in two: messages that go, and messages that stay.

    old: the messages that go.
    kept: the messages that stay.
    num_before: exact number of tokens of the whole conversation.
    num_kept: exact number of tokens of the messages that stay.
    max_summary: the most tokens that a summary may have.
    obstacle: why a summary is no use; "" if it is of use.
    """

    old: tuple[Node, ...]
    kept: tuple[Node, ...]
    num_before: int
    num_kept: int
    max_summary: int
    obstacle: str


def plan_cut(session: ChatSession, keep: int | None = None) -> Cut:
    """Return the cut before the last `keep` questions.

    By default the last question stays; if there is only one, everything goes. UsageError if nothing
    would go.
    """
    path = session.tree.path()
    questions = [i for i, node in enumerate(path) if node.message.role == "user"]
    keep = min(1, len(questions) - 1) if keep is None else keep
    if keep < 0 or keep >= len(questions):
        raise UsageError(
            f"there is nothing to compact: {counted(len(questions), 'question')} so far"
            + (f", and {keep} are to stay" if keep > 0 else "")
        )
    at = questions[-keep] if keep else len(path)
    old, kept = tuple(path[:at]), tuple(path[at:])
    system = session.tree.system
    limit = min(_MAX_SUMMARY, max(1, session.n_ctx // _SUMMARY_SHARE))
    num_before = session.num_tokens
    num_kept = session.tokens.count(Conversation(_messages(kept), system))
    obstacle = ""
    if len(_summary_prompt(session, old)) + limit > session.n_ctx:
        obstacle = "there is no room left to write a summary"
    elif num_kept + limit >= num_before:
        num_old = counted(num_before - num_kept, "token")
        obstacle = f"no use: these have {num_old}, a summary may take {limit:,}"
    return Cut(old, kept, num_before, num_kept, limit, obstacle)


def drop(session: ChatSession, cut: Cut) -> None:
    """Make a branch that has only the messages that stay."""
    session.become(session.tree.at(ROOT).said(*_messages(cut.kept)))


def sum_up(session: ChatSession, cut: Cut) -> Answer:
    """Let the model write a summary of the old messages; put it before those that stay.

    The summary goes into the first question that stays. If no question stays, it is attached to the
    next one. If the user stops the summary, or it is empty, nothing changes. Returns the answer
    that has the summary.
    """
    prompt = _summary_prompt(session, cut.old)
    (answer,) = session.generate(prompt, max_tokens=cut.max_summary)
    if answer.finish_reason == "abort" or not answer.text.strip():
        return answer
    summary = f"Summary of what was said before:\n{answer.text.strip()}"
    first, *rest = _messages(cut.kept) or (None,)
    if first:
        question = first.saying(joined([summary, first.content]))
        session.become(session.tree.at(ROOT).said(question, *rest))
    else:
        session.become(session.tree.at(ROOT))
        session.attach("summary", summary)
    return answer


def _summary_prompt(session: ChatSession, old: tuple[Node, ...]) -> list[int]:
    """Return the prompt that asks for the summary.

    It begins with the conversation itself, so only the instruction has to be computed.
    """
    asked = Conversation(_messages(old), session.tree.system).asked(_INSTRUCTION)
    return session.tokens.prompt(asked)


def _messages(nodes: tuple[Node, ...]) -> tuple[Message, ...]:
    return tuple(node.message for node in nodes)
