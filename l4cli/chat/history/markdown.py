"""Writes a conversation as Markdown, for people to read. It cannot be loaded again."""

from __future__ import annotations

import json
import re

from l4cli.chat.history.conversation import Conversation, Message
from l4cli.chat.text import shortened

_SPEAKERS = {"user": "You", "assistant": "Model", "ipython": "Tool"}


def as_markdown(conversation: Conversation) -> str:
    """Return the conversation with a heading for each message; its title is the first question."""
    asked = next((m.content for m in conversation.messages if m.role == "user"), "")
    blocks = [f"# {shortened(asked, 80) or 'Conversation'}"]
    if conversation.system:
        blocks.append(f"## System\n\n{conversation.system.strip()}")
    blocks += [f"## {_SPEAKERS[m.role]}\n\n{_content(m)}" for m in conversation.messages]
    return "\n\n".join(blocks) + "\n"


def _content(message: Message) -> str:
    if message.role == "ipython":
        return _fenced(message.content)
    parts = [message.content.strip()] if message.content.strip() else []
    for call in message.tool_calls:
        parts.append(_fenced(f"{call.name}({json.dumps(call.arguments, ensure_ascii=False)})"))
    if message.is_partial:
        parts.append("*(incomplete)*")
    return "\n\n".join(parts)


def _fenced(text: str) -> str:
    """A code block; its fence is longer than any row of backticks in the text."""
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text.rstrip()}\n{fence}"
