"""`l4 sessions`: lists, shows, searches, exports and removes the conversations of `l4 chat`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from l4cli import console
from l4cli.amounts import counted
from l4cli.commands import completion
from l4cli.commands.group import Command, ListingGroup
from l4cli.errors import EXIT_FAILED, OutputError, UsageError

Name = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]",
        autocompletion=completion.sessions,
        help="Name of the session (default: the one used last).",
    ),
]
_SNIPPET = 70  # characters of a message that a search shows

sessions = typer.Typer(
    help="List, show, search, export and remove the conversations of `l4 chat`.",
    cls=ListingGroup,
)


@sessions.command("list", cls=Command)
def list_sessions(
    json: Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")] = False,
) -> None:
    """List the sessions, the last used first."""
    from l4cli.chat.history.session_file import summaries
    from l4cli.chat.text import shortened

    found = summaries()
    if json:
        console.data_json(
            [
                {"name": s.name, "used": s.used.isoformat(), "first_question": s.first_question}
                for s in found
            ]
        )
        return
    if not found:
        console.note("no sessions yet: `l4 chat` starts one")
        return
    console.table(
        ["SESSION", "LAST USED", "BEGAN WITH"],
        [[s.name, f"{s.used:%Y-%m-%d %H:%M}", shortened(s.first_question, 60)] for s in found],
    )
    console.note("`l4 chat --session NAME` continues one, `l4 sessions show NAME` prints it")


@sessions.command("show", cls=Command)
def show_session(name: Name = None) -> None:
    """Print a conversation as Markdown: the branch where it was left."""
    from l4cli.chat.history.markdown import as_markdown
    from l4cli.chat.history.reading import read_session

    name = _named(name)
    replayed = read_session(name)
    for loss in replayed.losses:
        console.warn(f"{name}: {loss}")
    console.data(as_markdown(replayed.tree.conversation), end="")


@sessions.command("export", cls=Command)
def export_session(
    name: Name = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="File to write: Markdown if its name ends in .md, JSON Lines that `l4 chat` can "
            "load if in .jsonl or .json (default: NAME.md).",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace FILE if it exists.")
    ] = False,
) -> None:
    """Write a conversation to a file: the branch where it was left."""
    from l4cli.chat.history.export import write
    from l4cli.chat.history.reading import read_session

    name = _named(name)
    tree = read_session(name).tree
    conversation = tree.conversation
    path = out or Path(f"{name}.md")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists: give another name with -o, or --overwrite to replace it")
    write(conversation, path)
    count, num_left = len(conversation.messages), len(tree.nodes) - len(conversation.messages)
    left = f"; {counted(num_left, 'message')} of other branches left out" if num_left else ""
    console.note(f"{path}: {counted(count, 'message')}{left}")


@sessions.command("search", cls=Command)
def search_sessions(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Words to look for.")],
) -> None:
    """Find messages in all sessions and their branches. Exit code 1 if there are none."""
    from l4cli.chat.history.reading import search
    from l4cli.chat.text import shortened

    if not text.strip():
        raise UsageError("the text to search for is empty")
    rows = []
    for hit in search(text):
        start = max(0, hit.at - 20)
        before = "…" if start else ""
        passage = shortened(before + hit.node.message.content[start:], _SNIPPET)
        rows.append([hit.session, str(hit.node.id), hit.node.message.role, passage])
    if not rows:
        console.note(f"no message has {text!r}")
        raise typer.Exit(EXIT_FAILED)
    console.table(["SESSION", "MESSAGE", "BY", "TEXT"], rows)


@sessions.command("rm", cls=Command)
def remove_sessions(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            autocompletion=completion.sessions,
            help="Names as `l4 sessions` shows them.",
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Remove sessions. One that is open in a chat is refused."""
    from l4cli.chat.history.session_file import SessionFile, require_session

    paths = [require_session(name) for name in names]  # all or none
    if not yes:
        what = ", ".join(names)
        if not sys.stdin.isatty():
            raise UsageError(f"{what}: no terminal to confirm on; give --yes to remove this")
        if not typer.confirm(f"Remove {what}?", err=True):
            console.note("nothing was removed")
            return
    for path in paths:
        SessionFile(path).discard()
    console.note(f"removed: {', '.join(names)}")


def _named(name: str | None) -> str:
    from l4cli.chat.history.session_file import last_session

    return name or last_session()
