"""Slash commands: one table, from which running, completion and /help are made."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from l4cli.chat import files
from l4cli.chat.session import SETTINGS, ChatSession
from l4cli.errors import UsageError

Say = Callable[[str], None]
Argument = Literal["", "path", "setting", "text"]


class LeaveChat(Exception):  # noqa: N818 - not an error: the user wants to go
    """Raised by /exit."""


@dataclass(frozen=True, slots=True)
class Command:
    """`name` with its `usage` (the argument as /help shows it) and what it does.

    `run` gets the session, the argument's text and a place to say things.
    """

    name: str
    usage: str
    help: str
    run: Callable[[ChatSession, str, Say], None]
    argument: Argument = ""
    is_required: bool = False


def is_command(line: str) -> bool:
    """Whether a line is for l4 rather than for the model."""
    return line.startswith("/")


def run_command(session: ChatSession, line: str, say: Say) -> None:
    """Carry out one line; UsageError, with near matches, if there is no such command."""
    name, _, argument = line[1:].partition(" ")
    command, argument = find(name.strip()), argument.strip()
    if argument and not command.argument:
        raise UsageError(f"/{command.name} takes no argument")
    if not argument and command.is_required:
        raise UsageError(f"use it as /{command.name} {command.usage}")
    command.run(session, argument, say)


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


def _help(_session: ChatSession, _argument: str, say: Say) -> None:
    heads = [f"/{command.name} {command.usage}".rstrip() for command in COMMANDS]
    width = max(map(len, heads)) + 2
    lines = [
        f"  {head.ljust(width)}{command.help}"
        for head, command in zip(heads, COMMANDS, strict=True)
    ]
    say("\n".join(["Commands:", *lines, "", *_KEYS]))


def _exit(_session: ChatSession, _argument: str, _say: Say) -> None:
    raise LeaveChat


def _clear(session: ChatSession, _argument: str, say: Say) -> None:
    session.clear()
    say(
        "the conversation is empty again"
        + (", but for its system message" if _system(session) else "")
    )


def _set_system(session: ChatSession, argument: str, say: Say) -> None:
    if not argument:
        say(_system(session) or "there is no system message; /system TEXT sets one")
        return
    if argument == "off":
        session.set_system(None)
        say("no system message any more")
        return
    text = files.read_text(Path(argument[1:])) if argument.startswith("@") else argument
    session.set_system(text)
    say(f"system message set ({session.tokens.count_text(text):,} tokens)")


def _set(session: ChatSession, argument: str, say: Say) -> None:
    name, _, value = argument.partition(" ")
    if name and not value.strip():
        raise UsageError(f"use it as /set {name} VALUE, or /set {name} default")
    if name:
        session.set(name, value.strip())
    say("\n".join(_settings(session)))


def _show(session: ChatSession, _argument: str, say: Say) -> None:
    lines = [
        f"model        {session.llm.name}",
        f"context      {session.num_tokens:,} of {session.n_ctx:,} tokens",
        f"questions    {session.conversation.num_questions}",
        f"system       {_shortened(_system(session) or 'none')}",
    ]
    lines += [f"attached     {a.name} ({a.num_tokens:,} tokens)" for a in session.attachments]
    if session.last:
        last = session.last
        lines += [
            f"last prompt  {last.num_prompt_tokens:,} tokens, "
            f"{last.num_cached_tokens:,} of them still in the KV cache",
            f"last answer  {len(last.token_ids):,} tokens, {last.generation_tps:.1f} tokens/s, "
            f"first after {last.ttft:.2f} s",
        ]
    say("\n".join([*lines, *_settings(session)]))


def _undo(session: ChatSession, _argument: str, say: Say) -> None:
    say(f"taken back: {_shortened(session.undo())}")


def _regenerate(session: ChatSession, _argument: str, say: Say) -> None:
    params = session.llm.params(**session.sampling)
    if params.temperature == 0 or params.seed is not None:
        reason = "temperature 0" if params.temperature == 0 else f"seed {params.seed}"
        say(f"({reason} gives the same answer again; /set changes it)")
    session.regenerate()


def _continue(session: ChatSession, _argument: str, _say: Say) -> None:
    session.go_on()


def _file(session: ChatSession, argument: str, say: Say) -> None:
    attachment = session.attach(argument, files.read_text(Path(argument)))
    seconds = ""
    if session.last and session.last.prompt_tps:
        seconds = f", about {attachment.num_tokens / session.last.prompt_tps:.0f} s to read"
    say(
        f"{attachment.name}: {attachment.num_tokens:,} tokens{seconds}; "
        "it goes before your next message"
    )


def _save(session: ChatSession, argument: str, say: Say) -> None:
    path = Path(argument).expanduser()
    session.save(path)
    say(f"saved to {path}")


def _load(session: ChatSession, argument: str, say: Say) -> None:
    session.load(Path(argument).expanduser())
    say(f"loaded: {session.conversation.num_questions} questions, {session.num_tokens:,} tokens")


def _tokens(session: ChatSession, _argument: str, say: Say) -> None:
    conversation, count = session.conversation, session.tokens.count_text
    rows = [("system", conversation.system)] if conversation.system else []
    rows += [(message.role, message.content) for message in conversation.messages]
    lines = [f"{count(text):>9,}  {role}: {_shortened(text, 48)}" for role, text in rows]
    used = session.num_tokens
    inner = sum(count(text) for _, text in rows)
    lines += [f"{used - inner:>9,}  chat format", f"{used:>9,}  of {session.n_ctx:,}"]
    say("\n".join(lines))


def _settings(session: ChatSession) -> list[str]:
    params = session.llm.params(**session.sampling)
    none = {"seed": "random", "max_tokens": "rest of the context"}
    return [
        f"{name:<13}{none[name] if (value := getattr(params, name)) is None else value}"
        for name in SETTINGS
    ]


def _system(session: ChatSession) -> str | None:
    return session.conversation.system


def _shortened(text: str, width: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


COMMANDS = (
    Command("help", "", "this list", _help),
    Command("file", "PATH", "put a file's text before your next message", _file, "path", True),
    Command("regen", "", "answer the last question anew", _regenerate),
    Command("continue", "", "go on with an answer that was stopped", _continue),
    Command("undo", "", "take back the last question and its answer", _undo),
    Command("clear", "", "forget the conversation", _clear),
    Command(
        "system", "TEXT|@FILE|off", "set, show or drop the system message", _set_system, "text"
    ),
    Command("set", "NAME VALUE", "set sampling: temperature, top_p, seed …", _set, "setting"),
    Command("show", "", "model, context, settings, the last answer's cost", _show),
    Command("tokens", "", "what takes up the context, message by message", _tokens),
    Command("save", "PATH", "write the conversation, as JSON lines", _save, "path", True),
    Command("load", "PATH", "go on with a saved conversation", _load, "path", True),
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
