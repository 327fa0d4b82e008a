"""Turns leak no objects; benchmarks/chat_memory.py measures the memory of a real chat of 200."""

from __future__ import annotations

import gc
from collections import Counter

from chat_support import RecordingView, fake_llm

from l4cli.chat.session import ChatSession


def living() -> Counter[str]:
    """Count the living objects of l4's own classes, except nodes and messages."""
    gc.collect()
    kinds = [type(thing) for thing in gc.get_objects()]
    return Counter(
        f"{kind.__module__}.{kind.__qualname__}"
        for kind in kinds
        if str(kind.__module__).startswith(("l4cli.", "chat_support", "fakes"))
        and kind.__name__ not in ("Node", "Message")
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
    assert len(session.tree.nodes) == 48 * 2  # the same answer again is not kept
    assert llm.engine.backend.num_open_samplers == 0  # type: ignore[attr-defined]
