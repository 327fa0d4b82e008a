"""Slash commands for files, the system message, settings and sessions."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from l4cli.amounts import counted, roughly
from l4cli.chat import files
from l4cli.chat.attachments import Attachment
from l4cli.chat.commands.report import settings
from l4cli.chat.commands.ui import Ui
from l4cli.chat.history.session_file import SessionFile, require_session, sessions_dir, summaries
from l4cli.chat.session import ChatSession
from l4cli.chat.text import clipped, shortened
from l4cli.chat.typed_paths import typed_path, typed_paths
from l4cli.documents.ingest import ingest
from l4cli.errors import ContextOverflowError, InputError, UsageError
from l4cli.paths import STDIN, expanded

_LISTED = 20
_WHEN_SENT = "it goes before your next message"


def attach(session: ChatSession, argument: str, ui: Ui) -> None:
    path = typed_path(argument)
    _refuse_second(session, path)
    text = files.read_text(Path(path), lambda note: ui.say(f"({note})"))
    ui.say(announced(session, session.attach(path, text)))


def announced(session: ChatSession, attachment: Attachment) -> str:
    """Return the line that tells what an attached file will cost once it is sent."""
    return f"{attachment.name}: {_cost(session, attachment.num_tokens)}; {_WHEN_SENT}"


def attach_documents(session: ChatSession, argument: str, ui: Ui) -> None:
    """Attach every document that can be read and fits; show a line for each one that does not.

    The last line tells how many tokens must be computed. At the start of a conversation, documents
    that are in the reading cache need not be computed again.
    """
    attached = 0
    for document in ingest(
        _sources(argument),
        on_error=lambda error: ui.say(f"({error})"),
        on_note=lambda note: ui.say(f"({note})"),
    ):
        try:
            _refuse_second(session, document.name)
            attachment = session.attach(document.name, document.tagged, document)
        except (ContextOverflowError, UsageError) as error:
            ui.say(f"({error})")
            continue
        pages = f"{counted(document.num_pages, 'page')}, " if document.num_pages else ""
        ui.say(f"{attachment.name}: {pages}{counted(attachment.num_tokens, 'token')}")
        attached += 1
    if not attached:
        raise InputError("nothing was attached")
    ui.say(f"before your next message: {_cost_of_all(session, ui)}")


def _refuse_second(session: ChatSession, name: str) -> None:
    """Raise UsageError if the file of this name is attached already, by /file or by /doc."""
    path = os.path.realpath(expanded(name))
    for one in session.attachments:
        if os.path.realpath(expanded(one.name)) == path:
            raise UsageError(
                f"{name} is attached already; /detach {one.name} takes it back, to attach it anew"
            )


def detach(session: ChatSession, argument: str, ui: Ui) -> None:
    """Take back all attachments, or those that the argument names; list those that are left."""
    if not session.attachments:
        raise UsageError("nothing is attached; /file and /doc attach files")
    chosen = _meant(session.attachments, argument) if argument else session.attachments
    gone = set(map(id, chosen))  # two may have the same name
    left = [one for one in session.attachments if id(one) not in gone]
    lines = [f"no longer attached: {one.name}" for one in chosen]
    session.attachments[:] = left
    lines += [f"still attached: {line}" for line in _numbered(left)]
    ui.say("\n".join(lines))


def _meant(attachments: Sequence[Attachment], argument: str) -> list[Attachment]:
    """The attachments of a name, with or without its folders, in a folder, or with a number."""
    argument = typed_path(argument)
    folder = f"{argument.rstrip('/')}/"
    if named := [
        one
        for one in attachments
        if argument in (one.name, Path(one.name).name) or one.name.startswith(folder)
    ]:
        return named
    if re.fullmatch("[0-9]{1,9}", argument) and 1 <= int(argument) <= len(attachments):
        return [attachments[int(argument) - 1]]
    there = "; ".join(_numbered(attachments))
    raise UsageError(f"{argument} is not attached; attached: {there}")


def _numbered(attachments: Sequence[Attachment]) -> list[str]:
    return [
        f"{number} {one.name} ({counted(one.num_tokens, 'token')})"
        for number, one in enumerate(attachments, 1)
    ]


def _cost_of_all(session: ChatSession, ui: Ui) -> str:
    """Return the cost of all attachments, without the document tokens that are already stored."""
    documents = session.documents()
    num_known = session.llm.num_stored(documents.prefix) if documents else 0
    if documents and not session.conversation.messages:
        others = sum(one.num_tokens for one in session.attachments if not one.document)
        return _cost(session, len(documents.prefix) + others, num_known)
    if num_known:
        ui.say(
            "(l4 has read this before, which saves time only at the start of a conversation: "
            "/clear, then attach it again)"
        )
    return _cost(session, sum(attachment.num_tokens for attachment in session.attachments))


def clear(session: ChatSession, _argument: str, ui: Ui) -> None:
    session.clear()
    ui.say(
        "the conversation is empty again"
        + (", except for the system message" if session.tree.system else "")
        + ("; /tree shows what was said before" if session.tree.nodes else "")
    )


def system(session: ChatSession, argument: str, ui: Ui) -> None:
    if not argument:
        ui.say(session.tree.system or "there is no system message; /system TEXT sets one")
        return
    if argument == "off":
        session.set_system(None)
        ui.say("the system message was removed")
        return
    text = files.read_text(Path(typed_path(argument[1:]))) if argument.startswith("@") else argument
    session.set_system(text)
    ui.say(f"system message set ({session.tokens.count_text(text):,} tokens)")


def change(session: ChatSession, argument: str, ui: Ui) -> None:
    name, _, value = argument.partition(" ")
    if name and not value.strip():
        raise UsageError(f"use it as /set {name} VALUE, or /set {name} default")
    if name:
        session.set(name, value.strip())
    ui.say("\n".join(settings(session)))


def save(session: ChatSession, argument: str, ui: Ui) -> None:
    typed, overwrites = _without_overwrite(argument)
    name = typed_path(typed)
    if _is_path(name) or overwrites:
        export(session, argument, ui)
        return
    if re.search(r"\.[A-Za-z]\w{0,4}$", name):
        raise UsageError(
            f"{name} looks like a file, and /save writes .md (Markdown), .jsonl and .json; "
            "the name of a session has no such ending"
        )
    if not session.file:
        raise UsageError("this chat is not kept; /save ./FILE writes its messages to a file")
    session.file.rename(name)
    ui.say(f"this session is now named {name}; continue it with: l4 chat --session {name}")


def export(session: ChatSession, argument: str, ui: Ui) -> None:
    name, overwrites = _without_overwrite(argument)
    path = expanded(typed_path(name))
    session.save(path, overwrite=overwrites)
    ui.say(f"saved to {path}")


def _without_overwrite(argument: str) -> tuple[str, bool]:
    """Split `--overwrite` off the end of an argument; return the rest, and whether it was there."""
    name = argument.removesuffix(" --overwrite")
    return name.rstrip(), name != argument


def load(session: ChatSession, argument: str, ui: Ui) -> None:
    argument = typed_path(argument)
    if _is_path(argument):
        session.load(expanded(argument))
    elif not session.file:
        raise UsageError("this chat is not kept, so it cannot switch to a session")
    elif argument == session.file.name:
        raise UsageError(f"{argument} is already the session of this chat")
    else:
        session.open(SessionFile(require_session(argument, "/sessions")))
    for loss in session.losses:
        ui.say(f"({argument}: {loss})")
    questions = counted(session.conversation.num_questions, "question")
    ui.say(f"loaded: {questions}, {counted(session.num_tokens, 'token')}")


def sessions(session: ChatSession, _argument: str, ui: Ui) -> None:
    found = summaries()
    if not found:
        ui.say("no sessions have been kept yet")
        return
    this = session.file.name if session.file else ""
    width = max(len(one.name) for one in found[:_LISTED])
    lines = [
        clipped(
            f"{'*' if one.name == this else ' '} {one.name:<{width}}  {one.used:%Y-%m-%d %H:%M}  "
            f"{shortened(one.first_question)}",
            ui.width,
        )
        for one in found[:_LISTED]
    ]
    if len(found) > _LISTED:
        lines.append(f"  and {len(found) - _LISTED} older ones in {sessions_dir()}")
    ui.say("\n".join([*lines, "/load NAME continues one"]))


def _cost(session: ChatSession, num_tokens: int, num_known: int = 0) -> str:
    """Return the number of tokens and, where it can be estimated, the time to read them.

    `num_known` of the tokens are already stored and take no time.
    """
    whole = "all" if num_known == num_tokens else f"{num_known:,} of them"
    known = f", {whole} already read" if num_known else ""
    seconds = session.reading_seconds(num_tokens - num_known) if num_tokens > num_known else None
    time = f", {roughly(seconds)} to read" if seconds is not None else ""
    return f"{counted(num_tokens, 'token')}{known}{time}"


def _sources(argument: str) -> list[str]:
    sources = typed_paths(argument)
    if STDIN in sources:
        raise UsageError("a chat cannot read documents from stdin; give files, folders or patterns")
    return sources


def _is_path(argument: str) -> bool:
    """Whether the argument is a path and not the name of a session."""
    return (
        "/" in argument or "\\" in argument or argument.lower().endswith((".jsonl", ".json", ".md"))
    )
