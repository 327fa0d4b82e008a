"""The table of slash commands. Running, completion and /help all use it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from l4cli.chat.commands import help as helping
from l4cli.chat.commands import model, report, templates, tree
from l4cli.chat.commands import session as about
from l4cli.chat.commands.command import Command
from l4cli.chat.commands.ui import Ui
from l4cli.chat.session import ChatSession
from l4cli.errors import UsageError


class LeaveChat(Exception):  # noqa: N818 - not an error: the user wants to leave
    """Raised by /exit."""


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
        raise UsageError(f"use it as {command.head}: {command.help}")
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


def _help(_session: ChatSession, argument: str, ui: Ui) -> None:
    """Say which commands there are; or what all of them do, or one."""
    if not argument:
        ui.say(helping.overview(GROUPS, ui.width))
    elif argument == "all":
        ui.say(helping.everything(COMMANDS, ui.width))
    else:
        command = find(argument.removeprefix("/"))
        others = [alias for alias, name in ALIASES.items() if name == command.name]
        ui.say(helping.about(command, others))


def _exit(_session: ChatSession, _argument: str, _ui: Ui) -> None:
    raise LeaveChat


GROUPS: Mapping[str, tuple[Command, ...]] = {
    "attach files": (
        Command(
            "file", "PATH", "put a file's text before your next message", about.attach, "path", True
        ),
        Command(
            "doc",
            "PATH …",
            "attach documents: files, folders or patterns",
            about.attach_documents,
            "paths",
            True,
        ),
        Command(
            "detach",
            "[NAME|N]",
            "take back what is attached: all of it, or one",
            about.detach,
            "attachment",
        ),
    ),
    "get answers": (
        Command("regen", "", "answer the last question again", tree.regenerate),
        Command(
            "alts",
            "N",
            "get N answers to the last question; go on from one",
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
        Command("copy", "[N]", "copy the last answer, or its code block N", report.copy, "number"),
    ),
    "go back, change": (
        Command("edit", "[N]", "change your last message, or message N", tree.edit, "message"),
        Command("undo", "", "take back the last question and its answer", tree.undo),
        Command("branch", "[N]", "say something else after message N", tree.branch, "message"),
        Command(
            "goto", "N", "go to the end of the branch with message N", tree.go_to, "message", True
        ),
        Command("tree", "", "everything said, with all branches", tree.show_tree),
    ),
    "make room": (
        Command("clear", "", "start an empty conversation", about.clear),
        Command(
            "compact", "[N]", "sum up or drop all but the last N questions", tree.compact, "number"
        ),
    ),
    "how it answers": (
        Command(
            "system", "TEXT|@FILE|off", "set, show or drop the system message", about.system, "text"
        ),
        Command(
            "model",
            "[NAME|FILE]",
            "go on with another model; show those here",
            model.model,
            "model",
        ),
        Command(
            "set", "NAME VALUE", "set sampling: temperature, top_p, seed …", about.change, "setting"
        ),
        Command(
            "template",
            "NAME [X=Y …]",
            "ask with a template; X is a variable, Y its value",
            templates.ask_with,
            "template",
        ),
    ),
    "look": (
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
    ),
    "keep": (
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
    ),
    "help, leave": (
        Command(
            "help", "[NAME|all]", "the commands; what one does, or all of them", _help, "command"
        ),
        Command("exit", "", "leave (also exit, quit or bye alone, Ctrl-D)", _exit),
    ),
}
COMMANDS = tuple(command for group in GROUPS.values() for command in group)
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
