"""Turns leave nothing behind: bench/chat_memory.py measures it on a real chat of 200."""

from __future__ import annotations

import gc
from collections import Counter

from test_chat_support import RecordingView, fake_llm

from l4cli.chat.session import ChatSession


def living() -> Counter[str]:
    """Objects of l4's own kinds, but for what was said."""
    gc.collect()
    return Counter(
        f"{type(thing).__module__}.{type(thing).__qualname__}"
        for thing in gc.get_objects()
        if type(thing).__module__.startswith(("l4cli.", "test_chat_support", "fakes"))
        and type(thing).__name__ not in ("Node", "Message")
    )


def test_turns_leave_nothing_but_what_was_said() -> None:
    llm = fake_llm()
    session = ChatSession(llm, RecordingView)

    def talk(num_turns: int) -> None:
        for number in range(num_turns):
            if number % 4 == 0:
                session.clear()
            session.ask("hello")
            session.regenerate()

    talk(8)
    before = living()
    talk(40)
    assert living() == before
    assert len(session.tree.nodes) == 48 * 3
    assert llm.engine.backend.num_open_samplers == 0  # type: ignore[attr-defined]
