"""What /help shows: an overview in groups, one command, or all of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len

from l4cli.chat.commands.command import Argument, Command
from l4cli.columns import fold

_KEYS = {
    "Enter": "send",
    "Ctrl-J, Alt-Enter": "new line",
    "Ctrl-C": "stop answer",
    "Ctrl-G": "write in $EDITOR",
    "Tab": "complete",
    "Ctrl-D": "leave",
}
_MANY_LINES = 'A message that begins with """ may have many lines; """ ends it.'
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
    heading = "Commands (/help NAME tells what one does, /help all what each does):"
    lines = fold(heading, width, cell_len)
    for group, commands in groups.items():
        names = " ".join(f"/{command.name}" for command in commands)
        first = f"  {group}".ljust(indent)
        lines += fold(names, width, cell_len, first=first, rest=" " * indent)
    return "\n".join([*lines, *_keys(width)])


def everything(commands: Sequence[Command], width: int) -> str:
    """Return what each command does, and the keys.

    width: columns of the terminal.
    """
    lines = fold(f"Commands ({_NUMBER}):", width, cell_len)
    lines += _entries([(command.head, command.help) for command in commands], width)
    return "\n".join([*lines, *_keys(width)])


def _keys(width: int) -> list[str]:
    """Return what the keys do, in two columns if the terminal has room for them."""
    left, right = list(_KEYS.items())[::2], list(_KEYS.items())[1::2]
    lines = [
        f"  {one:<19} {what:<13} {other:<19} {does}"
        for (one, what), (other, does) in zip(left, right, strict=True)
    ]
    if max(map(len, lines)) > width:
        lines = _entries(list(_KEYS.items()), width)
    return ["Keys:", *lines, *fold(_MANY_LINES, width, cell_len, first="  ", rest="  ")]


def _entries(entries: Sequence[tuple[str, str]], width: int) -> list[str]:
    """Return names with what each means, aligned; below each name where that is too narrow."""
    column = max(len(name) for name, _ in entries) + 4
    has_room = column + min(width // 2, max(len(text) for _, text in entries)) <= width
    lines: list[str] = []
    for name, text in entries:
        if has_room:
            first = f"  {name}".ljust(column)
            lines += fold(text, width, cell_len, first=first, rest=" " * column)
        else:
            lines += [f"  {name}", *fold(text, width, cell_len, first="    ", rest="    ")]
    return lines


def about(command: Command, other_names: Sequence[str]) -> str:
    """Return what one command does, what it takes, and its other names."""
    lines = [f"{command.head}: {command.help}"]
    lines += [f"  {hint}" for hint in [_ARGUMENTS.get(command.argument)] if hint]
    if other_names:
        lines.append(f"  also as {', '.join(f'/{name}' for name in other_names)}")
    return "\n".join(lines)
