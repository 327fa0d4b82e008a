"""One question, one answer: `l4 chat -p`, and `l4 chat` in a pipe."""

from __future__ import annotations

from l4cli import console
from l4cli.chat.session import ChatSession
from l4cli.errors import EXIT_OK


def one_shot(session: ChatSession, question: str) -> int:
    """Answer on stdout; the exit code, which is that of the signal if one ended the answer."""
    answer = session.ask(question)
    if answer.finish_reason == "length":
        console.warn(f"the answer was cut off after {len(answer.token_ids):,} tokens")
    return answer.exit_code or EXIT_OK
