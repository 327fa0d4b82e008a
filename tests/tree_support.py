"""Conversation trees for tests: one written by hand, and random ones."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from l4cli.chat.history.conversation import Message
from l4cli.chat.history.tree import ROOT, Tree


def q(text: str) -> Message:
    return Message("user", text)


def a(text: str, reason: str = "stop") -> Message:
    return Message("assistant", text, (1, 2), reason)  # type: ignore[arg-type]


TALK = Tree(system="Be brief.").said(q("one"), a("1"), q("two"), a("2"))  # ids 1 to 4


def grown(seed: int) -> Tree:
    """Return a random tree, made as chats make it: each message below any earlier one."""
    draw = random.Random(seed)
    tree = Tree(system=draw.choice([None, "s"]))
    for _ in range(draw.randrange(25)):
        role = draw.choice(["user", "assistant", "ipython"])
        text = "".join(draw.choices("ab c中文😀\n\t", k=draw.randrange(200)))
        tree = tree.at(draw.randint(ROOT, tree.newest)).said(Message(role, text))  # type: ignore[arg-type]
    return tree.at(draw.randint(ROOT, tree.newest))


trees = st.integers(0, 2**32).map(grown)
