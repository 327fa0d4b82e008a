"""Fill the reference tables in docs/*.md from the code: `python docs/reference.py`.

A table stands between `<!-- options: NAME -->` (a command) or `<!-- slash commands -->` and
`<!-- end -->`. `tests/cli/test_docs.py` fails when a page is not what this script writes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import typer

from l4cli.app import app
from l4cli.chat.commands.table import COMMANDS

DOCS = Path(__file__).resolve().parent
_TABLE = re.compile(r"<!-- (options: (?P<name>[a-z -]+)|slash commands) -->\n.*?<!-- end -->", re.S)


def rendered(page: str) -> str:
    """The text of a page with its tables made anew."""
    return _TABLE.sub(_table, page)


def pages() -> list[Path]:
    """All pages of the documentation, and the README."""
    return [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]


def commands() -> dict[str, Any]:
    """Every command by the words that call it: `run`, `docs add`."""
    found: dict[str, Any] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        for sub, one in getattr(command, "commands", {"": command}).items():
            found[f"{name} {sub}".strip()] = one
    return found


def _table(match: re.Match[str]) -> str:
    if match["name"]:
        lines = _options(commands()[match["name"].strip()])
    else:
        lines = ["| command | what it does |", "| --- | --- |"]
        lines += [_row(f"`{each.head}`", each.help) for each in COMMANDS]
    head = match[0].partition("\n")[0]
    return "\n".join([head, *lines, "<!-- end -->"])


def _options(command: Any) -> list[str]:
    """A table of a command's arguments and options, in the groups that --help shows."""
    groups: dict[str, list[Any]] = defaultdict(list)
    for parameter in command.params:
        if not parameter.hidden and "--help" not in parameter.opts:
            groups[parameter.rich_help_panel or ""].append(parameter)
    lines = ["| option | what it does |", "| --- | --- |"] if groups else []
    for panel, parameters in groups.items():
        if panel:
            lines.append(_row(f"**{panel}**", ""))
        lines += [_row(_usage(each), _help(each)) for each in parameters]
    return lines


def _usage(parameter: Any) -> str:
    if not parameter.opts[0].startswith("-"):
        return f"`{parameter.metavar or parameter.name.upper()}`"
    names = sorted([*parameter.opts, *parameter.secondary_opts], key=len)
    value = "" if parameter.is_flag else f" {parameter.metavar or parameter.name.upper()}"
    return ", ".join(f"`{name}{value}`" for name in names)


def _help(parameter: Any) -> str:
    text = parameter.help or ""
    is_flag = getattr(parameter, "is_flag", False)
    if parameter.default not in (None, False, (), []) and not is_flag:
        text += f" Default: `{parameter.default}`."
    if parameter.envvar:
        text += f" Variable: `{parameter.envvar}`."
    return text.strip()


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    for page in pages():
        page.write_text(rendered(page.read_text("utf-8")), "utf-8")
