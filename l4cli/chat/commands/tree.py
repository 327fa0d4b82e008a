"""Slash commands that move the head in the tree of messages, or add branches to it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

from l4cli.amounts import counted
from l4cli.chat.commands.ui import Ui
from l4cli.chat.compact import Cut, drop, plan_cut, sum_up
from l4cli.chat.history.drawing import draw_side_by_side, draw_tree
from l4cli.chat.history.tree import ROOT, Node
from l4cli.chat.session import ChatSession
from l4cli.chat.text import shortened
from l4cli.errors import UsageError

_MOST_ALTERNATIVES = 16


def show_tree(session: ChatSession, _argument: str, ui: Ui) -> None:
    lines = draw_tree(session.tree, ui.width)
    if not lines:
        ui.say("nothing has been said yet")
        return
    place = f"the branch up to message {session.tree.head}" if session.tree.head else "none of them"
    ui.say("\n".join([*lines, f"(* marks where you are: {place}; /goto N moves)"]))


def compare(session: ChatSession, argument: str, ui: Ui) -> None:
    nodes = _named(session, argument) if argument else _versions(session)
    lines = draw_side_by_side(nodes, ui.width)
    ui.say("\n".join([*lines, _how_alike([node.message.content for node in nodes])]))


def undo(session: ChatSession, _argument: str, ui: Ui) -> None:
    ui.say(f"taken back: {shortened(session.undo())}")


def regenerate(session: ChatSession, _argument: str, ui: Ui) -> None:
    session.tree.at_question()  # before anything is said: UsageError if nothing was asked
    params = session.params()
    if params.is_repeatable:
        reason = "temperature 0" if params.temperature == 0 else f"seed {params.seed}"
        ui.say(f"({reason} gives the same answer again; /set changes it)")
    newest = session.tree.newest
    answer = session.regenerate()
    if answer.has_begun and session.tree.newest == newest:
        ui.say(f"(the same as message {session.tree.head}, so it is not kept a second time)")


def go_on(session: ChatSession, _argument: str, _ui: Ui) -> None:
    session.go_on()


def edit(session: ChatSession, argument: str, ui: Ui) -> None:
    node = session.tree.node(number(argument)) if argument else session.tree.last_question()
    if node.message.tool_calls:
        raise UsageError(f"message {node.id} calls tools; /edit changes texts only")
    text = ui.edit(node.message.content)
    if text is None or text == node.message.content:
        ui.say("(nothing changed)")
    elif session.edit(node.id, text) is None:
        ui.say(f"(message {session.tree.head} is now the last one; /continue goes on from it)")


def branch(session: ChatSession, argument: str, ui: Ui) -> None:
    node = session.tree.node(number(argument)) if argument else session.tree.last_question()
    is_question = node.message.role == "user"
    session.become(session.tree.at(node.parent if is_question else node.id))
    place = "in place of" if is_question else "after"
    ui.say(f"your next message goes {place} message {node.id}: {_quoted(session, node.id)}")


def go_to(session: ChatSession, argument: str, ui: Ui) -> None:
    node = session.tree.node(number(argument))
    head = session.tree.end_of_branch(node.id)
    session.become(session.tree.at(head))
    if head == node.id:
        ui.say(f"at message {head}: {_quoted(session, head)}")
        return
    place = "in its place" if node.message.role == "user" else "after it"
    ui.say(
        f"at message {head}, the end of the branch with {node.id}: {_quoted(session, head)}\n"
        f"(/branch {node.id} says something else {place})"
    )


def alternatives(session: ChatSession, argument: str, ui: Ui) -> None:
    takes = f"/alts takes how many answers you want, 2 to {_MOST_ALTERNATIVES}"
    count = number(argument, takes)
    if not 2 <= count <= _MOST_ALTERNATIVES:
        raise UsageError(f"{takes}, not {count}")
    ids = session.alternatives(count, lambda n: ui.say(f"── answer {n + 1} of {count} ──"))
    if len(ids) < 2:
        return
    choice = _choice(ui, len(ids))
    session.become(session.tree.at(ids[choice - 1]))
    ways = " or ".join(f"/goto {id}" for id in ids if id != session.tree.head)
    others = "the other" if len(ids) == 2 else "another"
    ui.say(f"(the chat goes on from answer {choice}; {ways} takes {others})")


def compact(session: ChatSession, argument: str, ui: Ui) -> None:
    takes = "/compact takes how many of the last questions stay"
    cut = plan_cut(session, number(argument, takes) if argument else None)
    head, before = session.tree.head, cut.num_before
    ui.say("\n".join(_choices(cut)))
    offer = "[d]rop or leave it? " if cut.obstacle else "[s]um up, [d]rop or leave it? "
    choice = ui.ask(offer).strip().lower()
    if choice in ("s", "sum up", "sum") and not cut.obstacle:
        answer = sum_up(session, cut)
        if session.tree.head == head:
            ui.say("(no summary, nothing changed)")
            return
        if answer.finish_reason == "length":
            ui.say(f"(the summary was cut off at {cut.max_summary:,} tokens)")
    elif choice in ("d", "drop"):
        drop(session, cut)
    else:
        ui.say("(nothing changed)")
        return
    after = session.num_tokens + sum(a.num_tokens for a in session.attachments)
    ui.say(f"({before:,} tokens before, {after:,} now; /goto {head} goes back to all of it)")


def _named(session: ChatSession, argument: str) -> list[Node]:
    """Return the messages whose numbers are given; UsageError for fewer than two."""
    nodes = [session.tree.node(number(word)) for word in argument.split()]
    if len(nodes) < 2:
        raise UsageError("/compare takes the numbers of two messages or more, or none")
    return nodes


def _versions(session: ChatSession) -> list[Node]:
    """Return all answers to the last question; UsageError if there is only one."""
    tree = session.tree
    ids = tree.children(tree.at_question().head)
    if len(ids) < 2:
        raise UsageError("there is only one answer to the last question; /regen or /alts make more")
    return [tree.node(id) for id in ids]


def _how_alike(texts: Sequence[str]) -> str:
    """Return a line that tells after how many words the texts differ."""
    if len(set(texts)) == 1:
        return "(they are the same)"
    words = zip(*(text.split() for text in texts), strict=False)
    alike = sum(1 for _ in takewhile(lambda same: len(set(same)) == 1, words))
    return f"(they differ after {alike} words)" if alike else "(they differ from the first word on)"


def number(argument: str, takes: str = "/tree and /tokens show the numbers of messages") -> int:
    """Return the argument as a number; UsageError if it is none.

    takes: tells which number is meant.
    """
    if not re.fullmatch("[0-9]{1,18}", argument):
        raise UsageError(f"{argument!r} is not a number; {takes}")
    return int(argument)


def _choices(cut: Cut) -> list[str]:
    """Return the lines that tell what /compact can do, with exact numbers of tokens."""
    first, last = cut.old[0].id, cut.old[-1].id
    old = f"{counted(len(cut.old), 'message')} ({first} to {last})"
    lines = [f"{old} could go, {len(cut.kept)} would stay:"]
    if not cut.obstacle:
        most = cut.num_kept + cut.max_summary
        lines.append(f"  sum up   {cut.num_before:,} tokens now, about {most:,} afterwards at most")
    else:
        lines.append(f"  sum up   {cut.obstacle}")
    return [*lines, f"  drop     {cut.num_before:,} tokens now, {cut.num_kept:,} afterwards"]


def _choice(ui: Ui, count: int) -> int:
    """Ask until the user picks a number from 1 to `count`; an empty line picks 1."""
    while True:
        text = ui.ask(f"Go on from which answer, 1 to {count}? (Enter alone: 1) ").strip()
        if text in ("", *map(str, range(1, count + 1))):
            return int(text or 1)
        ui.say(f"{text!r} is no number from 1 to {count}")


def _quoted(session: ChatSession, id: int) -> str:
    return shortened(session.tree.node(id).message.content) if id != ROOT else "the beginning"
