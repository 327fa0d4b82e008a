"""Conversations as trees: changes keep old versions; the head; drawing."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from tree_support import TALK, a, q, trees

from l4cli.chat.history.conversation import Message
from l4cli.chat.history.drawing import draw_side_by_side, draw_tree
from l4cli.chat.history.tree import ROOT, Tree
from l4cli.chat.text import clipped, shortened
from l4cli.errors import UsageError


def contents(tree: Tree) -> list[str]:
    return [message.content for message in tree.conversation.messages]


def test_a_change_leaves_the_old_tree_as_it_was() -> None:
    longer = TALK.said(q("three"))
    assert contents(TALK) == ["one", "1", "two", "2"]
    assert contents(longer) == ["one", "1", "two", "2", "three"]
    assert longer.conversation.system == "Be brief."


def test_undoing_goes_back_before_the_last_question() -> None:
    back = TALK.at(TALK.last_question().parent)
    assert contents(back) == ["one", "1"]
    assert contents(back.at(back.last_question().parent)) == []
    with pytest.raises(UsageError, match="nothing has been asked"):
        Tree(system="x").last_question()


def test_another_answer_stands_beside_the_first() -> None:
    other = TALK.at_question().said(a("zwei"))
    assert contents(other) == ["one", "1", "two", "zwei"]
    assert other.children(3) == [4, 5]
    assert contents(other.at(4)) == contents(TALK)
    assert TALK.at(3).at_question() == TALK.at(3)
    with pytest.raises(UsageError, match="nothing has been asked"):
        Tree().at_question()


def test_a_tool_s_result_leads_to_an_answer_as_a_question_does() -> None:
    called = TALK.said(q("weather?"), a("[f()]"), Message("ipython", "sunny"), a("Sunny."))
    assert called.last_question().message.content == "weather?"
    assert contents(called.at_question())[-1] == "sunny"


def test_ids_are_never_given_again() -> None:
    assert TALK.at(2).said(q("else")).head == 5
    assert TALK.at(ROOT).said(q("anew")).newest == 5


def test_the_end_of_a_branch_is_its_newest_message() -> None:
    tree = TALK.at(2).said(q("else"), a("other"), q("more"), a("much")).at(4)
    assert tree.end_of_branch(5) == tree.end_of_branch(8) == 8
    assert tree.end_of_branch(3) == 4
    assert tree.end_of_branch(1) == 8
    with pytest.raises(UsageError, match=r"no message 9 \(there are 1 to 8\)"):
        tree.end_of_branch(9)


def test_clearing_keeps_the_system_message() -> None:
    assert TALK.at(ROOT).conversation.as_dicts() == [{"role": "system", "content": "Be brief."}]
    assert TALK.at(ROOT).with_system("").conversation.as_dicts() == []


def test_only_an_answer_that_is_open_can_go_on() -> None:
    assert a("x", "abort").is_open
    assert a("x", "length").is_open
    assert Message("assistant", "x", is_edited=True).is_open
    assert not a("x").is_open
    assert not q("x").is_open


def test_a_straight_conversation_is_drawn_straight() -> None:
    assert draw_tree(TALK, 40) == ["* 1 > one", "* 2   1", "* 3 > two", "* 4   2"]
    assert draw_tree(Tree(), 40) == []


def test_branches_stand_where_they_leave() -> None:
    tree = TALK.at(2).said(q("else"), a("part", "abort")).said(q("more"))
    tree = tree.at(5).said(Message("assistant", "mine", is_edited=True))
    assert draw_tree(tree.at(4), 40) == [
        "* 1 > one",
        "* 2   1",
        "* ├ 3 > two",
        "* │ 4   2",
        "  5 > else",
        "  ├ 6   part (broken off)",
        "  │ 7 > more",
        "  8   mine (edited)",
    ]


@given(trees, st.integers(20, 100))
def test_every_message_has_its_line_and_every_line_its_width(tree: Tree, width: int) -> None:
    lines = draw_tree(tree, width)
    assert len(lines) == len(tree.nodes)
    assert all(cell_len(line) <= width for line in lines)
    assert sum(line.startswith("*") for line in lines) == len(tree.path())


def test_a_long_conversation_with_deep_branches_is_drawn() -> None:
    tree = Tree()
    for n in range(500):
        tree = tree.said(q(f"question {n}"))
        tree = tree.said(a("x")) if n % 2 else tree.at(tree.nodes[tree.head].parent).said(a("y"))
    assert len(draw_tree(tree, 80)) == 1000


def test_texts_are_cut_in_columns_not_in_characters() -> None:
    assert shortened("a  b\nc", 10) == "a b c"
    assert shortened("中文中文中文", 7) == "中文中…"
    assert clipped("  ├ abc", 5) == "  ├…"


_SHOWN = st.text(st.characters(exclude_categories=["C", "Z"]) | st.sampled_from(" \n\t"))


@given(st.lists(_SHOWN, min_size=2, max_size=4), st.integers(19, 130))
def test_texts_side_by_side_fit_the_terminal_and_lose_nothing(texts: list[str], width: int) -> None:
    tree = Tree().said(*map(q, texts))
    lines = draw_side_by_side(list(tree.nodes.values()), width)
    assert all(cell_len(line) <= width for line in lines)
    shown = Counter("".join(lines))
    assert all(shown[char] >= n for char, n in Counter("".join("".join(texts).split())).items())
