"""The table of slash commands. Running, completion and /help all use it."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from l4cli.chat.commands import model, report, templates, tree
from l4cli.chat.commands import session as about
from l4cli.chat.commands.ui import Ui
from l4cli.chat.session import ChatSession
from l4cli.errors import UsageError

Argument = Literal[
    "", "path", "setting", "text", "message", "session", "number", "template", "attachment", "model"
]


class LeaveChat(Exception):  # noqa: N818 - not an error: the user wants to leave
    """Raised by /exit."""


@dataclass(frozen=True, slots=True)
class Command:
    """A slash command.

    name: the name without the slash.
    usage: the argument as /help shows it; "" for none.
    help: one line for /help.
    run: called with the session, the argument's text and the user interface.
    argument: the kind of argument, which decides what Tab completes. "message" is a message's
        number; "" means that the command takes no argument.
    is_required: whether the argument must be given.
    """

    name: str
    usage: str
    help: str
    run: Callable[[ChatSession, str, Ui], None]
    argument: Argument = ""
    is_required: bool = False


def is_command(line: str) -> bool:
    """Whether a line is a command for l4, not a message for the model."""
    return line.startswith("/") or line in _LEAVING


def run_command(session: ChatSession, line: str, ui: Ui) -> None:
    """Run the command in `line`; UsageError, with near matches, if there is no such command."""
    name, _, argument = line.removeprefix("/").partition(" ")
    command, argument = find(name.strip()), argument.strip()
    if argument and not command.argument:
        raise UsageError(f"/{command.name} takes no argument")
    if not argument and command.is_required:
        raise UsageError(f"use it as /{command.name} {command.usage}")
    command.run(session, argument, ui)


def find(name: str) -> Command:
    """Return the command with this name or alias; UsageError, with near matches, if none."""
    for command in COMMANDS:
        if command.name == ALIASES.get(name, name):
            return command
    near = difflib.get_close_matches(name, [c.name for c in COMMANDS], n=2, cutoff=0.5)
    hint = " or ".join(f"/{match}" for match in near)
    raise UsageError(
        f"no command /{name}; "
        + (f"did you mean {hint}?" if near else "/help lists them")
        + " (to send a message that begins with a slash, type a space before it)"
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
        "attach documents: files, folders or patterns",
        about.attach_documents,
        "path",
        True,
    ),
    Command(
        "detach",
        "[NAME|N]",
        "take back what is attached: all of it, or one",
        about.detach,
        "attachment",
    ),
    Command(
        "template",
        "NAME [X=Y …]",
        "ask with a template; X is a variable, Y its value",
        templates.ask_with,
        "template",
    ),
    Command("regen", "", "answer the last question again", tree.regenerate),
    Command(
        "alts",
        "N",
        "N answers to the last question at once; choose one",
        tree.alternatives,
        "number",
        True,
    ),
    Command(
        "compare",
        "[N N …]",
        "compare the last question's answers, or messages N",
        tree.compare,
        "message",
    ),
    Command("continue", "", "go on with an answer that was stopped or edited", tree.go_on),
    Command("edit", "[N]", "change your last message, or message N", tree.edit, "message"),
    Command("undo", "", "take back the last question and its answer", tree.undo),
    Command("branch", "[N]", "say something else after message N", tree.branch, "message"),
    Command("goto", "N", "go to the end of the branch with message N", tree.go_to, "message", True),
    Command("tree", "", "everything said, with all branches", tree.show_tree),
    Command("clear", "", "start an empty conversation", about.clear),
    Command(
        "compact", "[N]", "sum up or drop all but the last N questions", tree.compact, "number"
    ),
    Command(
        "system", "TEXT|@FILE|off", "set, show or drop the system message", about.system, "text"
    ),
    Command(
        "model", "[NAME|FILE]", "go on with another model; show those here", model.model, "model"
    ),
    Command(
        "set", "NAME VALUE", "set sampling: temperature, top_p, seed …", about.change, "setting"
    ),
    Command(
        "show",
        "[N]",
        "show model, session and settings; or all of message N",
        report.show,
        "message",
    ),
    Command("stats", "", "tokens and time that all answers took", report.stats),
    Command("tokens", "", "tokens that each message takes up in the context", report.tokens),
    Command("tools", "", "list the functions that the model can call", report.tools),
    Command("copy", "[N]", "copy the last answer, or its code block N", report.copy, "number"),
    Command("sessions", "", "list the sessions that were kept", about.sessions),
    Command(
        "save",
        "NAME|PATH",
        "name the session, or save a copy to a file",
        about.save,
        "session",
        True,
    ),
    Command(
        "export",
        "FILE",
        "save a copy to a file (or FILE --overwrite)",
        about.export,
        "path",
        True,
    ),
    Command(
        "load", "NAME|PATH", "continue a session, or a saved copy", about.load, "session", True
    ),
    Command("exit", "", "leave (also exit, quit or bye alone, Ctrl-D)", _exit),
)
ALIASES = {
    "quit": "exit",
    "bye": "exit",
    "q": "exit",
    "?": "help",
    "new": "clear",
    "reset": "clear",
    "retry": "regen",
    "regenerate": "regen",
    "history": "tree",
    "attach": "file",
}
_LEAVING = ("exit", "quit", "bye")  # typed alone, with no slash, as in a shell

_KEYS = (
    "Keys:",
    "  Enter               send          Ctrl-J, Alt-Enter   new line",
    "  Ctrl-C              stop answer   Ctrl-G              write in $EDITOR",
    "  Tab                 complete      Ctrl-D              leave",
    '  A message that begins with """ may have many lines; """ ends it.',
)
