"""What /help shows: an overview in groups, one command, or all of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len

from l4cli.chat.commands.command import Argument, Command
from l4cli.columns import fold

_KEYS = (
    "Keys:",
    "  Enter               send          Ctrl-J, Alt-Enter   new line",
    "  Ctrl-C              stop answer   Ctrl-G              write in $EDITOR",
    "  Tab                 complete      Ctrl-D              leave",
    '  A message that begins with """ may have many lines; """ ends it.',
)
_NUMBER = "N is a message's number, as /tree shows it"
_ARGUMENTS: Mapping[Argument, str] = {
    "message": _NUMBER,
    "path": "Tab completes paths; a path may have blanks, or stand in quotes",
    "paths": "Tab completes paths; a path with blanks among others stands in quotes",
    "setting": "/show shows all settings; the VALUE default takes a setting back",
    "model": "/model alone lists the models on this machine",
    "session": "/sessions lists the names",
    "template": "/template alone lists the names",
}


def overview(groups: Mapping[str, Sequence[Command]], width: int) -> str:
    """Return the names of all commands, a line for each group, and the keys.

    width: columns of the terminal.
    """
    indent = max(map(len, groups)) + 4
    lines = ["Commands (/help NAME tells what one does, /help all what each does):"]
    for group, commands in groups.items():
        names = " ".join(f"/{command.name}" for command in commands)
        first = f"  {group}".ljust(indent)
        lines += fold(names, width, cell_len, first=first, rest=" " * indent)
    return "\n".join([*lines, *_KEYS])


def everything(commands: Sequence[Command]) -> str:
    """Return a line for each command, and the keys."""
    width = max(len(command.head) for command in commands) + 2
    lines = [f"  {command.head.ljust(width)}{command.help}" for command in commands]
    return "\n".join([f"Commands ({_NUMBER}):", *lines, *_KEYS])


def about(command: Command, other_names: Sequence[str]) -> str:
    """Return what one command does, what it takes, and its other names."""
    lines = [f"{command.head}: {command.help}"]
    lines += [f"  {hint}" for hint in [_ARGUMENTS.get(command.argument)] if hint]
    if other_names:
        lines.append(f"  also as {', '.join(f'/{name}' for name in other_names)}")
    return "\n".join(lines)
