"""Slash commands: one table, from which running, completion and /help are made."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from l4cli.chat.commands import report, tree
from l4cli.chat.commands import session as about
from l4cli.chat.commands.ui import Ui
from l4cli.chat.session import ChatSession
from l4cli.errors import UsageError

Argument = Literal["", "path", "setting", "text", "message", "session", "number"]


class LeaveChat(Exception):  # noqa: N818 - not an error: the user wants to go
    """Raised by /exit."""


@dataclass(frozen=True, slots=True)
class Command:
    """`name` with its `usage` (the argument as /help shows it) and what it does.

    `run` gets the session, the argument's text and whoever shows the chat. `argument` says what
    completion offers: "message" is the number of one.
    """

    name: str
    usage: str
    help: str
    run: Callable[[ChatSession, str, Ui], None]
    argument: Argument = ""
    is_required: bool = False


def is_command(line: str) -> bool:
    """Whether a line is for l4 rather than for the model."""
    return line.startswith("/")


def run_command(session: ChatSession, line: str, ui: Ui) -> None:
    """Carry out one line; UsageError, with near matches, if there is no such command."""
    name, _, argument = line[1:].partition(" ")
    command, argument = find(name.strip()), argument.strip()
    if argument and not command.argument:
        raise UsageError(f"/{command.name} takes no argument")
    if not argument and command.is_required:
        raise UsageError(f"use it as /{command.name} {command.usage}")
    command.run(session, argument, ui)


def find(name: str) -> Command:
    """The command of that name or alias."""
    for command in COMMANDS:
        if command.name == ALIASES.get(name, name):
            return command
    near = difflib.get_close_matches(name, [c.name for c in COMMANDS], n=2, cutoff=0.5)
    hint = " or ".join(f"/{match}" for match in near)
    raise UsageError(
        f"no command /{name}; "
        + (f"did you mean {hint}?" if near else "/help lists them")
        + " (a message can begin with a slash after a space)"
    )


def _help(_session: ChatSession, _argument: str, ui: Ui) -> None:
    heads = [f"/{command.name} {command.usage}".rstrip() for command in COMMANDS]
    width = max(map(len, heads)) + 2
    lines = [
        f"  {head.ljust(width)}{command.help}"
        for head, command in zip(heads, COMMANDS, strict=True)
    ]
    ui.say("\n".join(["Commands (N is a message's number, as /tree shows it):", *lines, *_KEYS]))


def _exit(_session: ChatSession, _argument: str, _ui: Ui) -> None:
    raise LeaveChat


COMMANDS = (
    Command("help", "", "this list", _help),
    Command(
        "file", "PATH", "put a file's text before your next message", about.attach, "path", True
    ),
    Command(
        "doc",
        "PATH …",
        "the same for documents, folders, patterns",
        about.attach_documents,
        "path",
        True,
    ),
    Command("regen", "", "answer the last question anew", tree.regenerate),
    Command(
        "alts", "N", "N answers to it at once, to choose from", tree.alternatives, "number", True
    ),
    Command(
        "compare",
        "[N N …]",
        "the answers to it side by side, or messages N",
        tree.compare,
        "message",
    ),
    Command("continue", "", "go on with an answer that was stopped or edited", tree.go_on),
    Command("edit", "[N]", "change your last message, or message N", tree.edit, "message"),
    Command("undo", "", "take back the last question and its answer", tree.undo),
    Command("branch", "[N]", "say something else after message N", tree.branch, "message"),
    Command("goto", "N", "go to the end of the branch with message N", tree.go_to, "message", True),
    Command("tree", "", "everything said, with all branches", tree.show_tree),
    Command("clear", "", "begin anew", about.clear),
    Command(
        "compact", "[N]", "sum up or drop all but the last N questions", tree.compact, "number"
    ),
    Command(
        "system", "TEXT|@FILE|off", "set, show or drop the system message", about.system, "text"
    ),
    Command(
        "set", "NAME VALUE", "set sampling: temperature, top_p, seed …", about.change, "setting"
    ),
    Command("show", "[N]", "model, session, settings; or message N, whole", report.show, "message"),
    Command("stats", "", "what the answers took", report.stats),
    Command("tokens", "", "what takes up the context, message by message", report.tokens),
    Command("tools", "", "the functions that the model can call", report.tools),
    Command("copy", "[N]", "the last answer, or its code block N, to paste", report.copy, "number"),
    Command("sessions", "", "the sessions kept", about.sessions),
    Command("save", "NAME|PATH", "name the session, or write a copy", about.save, "session", True),
    Command("load", "NAME|PATH", "go on with a session, or a copy", about.load, "session", True),
    Command("exit", "", "leave (also /quit, Ctrl-D)", _exit),
)
ALIASES = {"quit": "exit", "?": "help"}

_KEYS = (
    "Keys:",
    "  Enter               send          Ctrl-J, Alt-Enter   new line",
    "  Ctrl-C              stop answer   Ctrl-G              write in $EDITOR",
    "  Tab                 complete      Ctrl-D              leave",
    '  A message that begins with """ may have many lines; """ ends it.',
)
