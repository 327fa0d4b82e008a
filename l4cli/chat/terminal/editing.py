"""The prompt's keys, completion and history."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from l4cli.amounts import human_size
from l4cli.chat.commands.command import Argument
from l4cli.chat.commands.table import COMMANDS, find, is_command
from l4cli.chat.history.session_file import session_names
from l4cli.chat.session import ChatSession
from l4cli.chat.settings import SETTINGS
from l4cli.chat.text import shortened
from l4cli.chat.typed_paths import OpenPath, last_open_path, open_path
from l4cli.errors import L4Error, UsageError
from l4cli.templates.files import template_names

PROMPT = "> "
HINT = "Ctrl-D leaves, /help helps"
BLOCK_QUOTE = '"""'


def is_open_block(text: str) -> bool:
    """Whether a text begins a block of lines (in triple quotes) and does not end it."""
    body = text.strip()
    if not body.startswith(BLOCK_QUOTE):
        return False
    return len(body) < 2 * len(BLOCK_QUOTE) or not body.endswith(BLOCK_QUOTE)


def message_of(text: str) -> str:
    """Return a typed text without its block quotes and outer line breaks."""
    body = text.strip()
    if body.startswith(BLOCK_QUOTE) and not is_open_block(body):
        text = body[len(BLOCK_QUOTE) : -len(BLOCK_QUOTE)]
    return text.strip("\n").rstrip()


def key_bindings(
    on_idle_interrupt: Callable[[], None], is_editing: Callable[[], bool]
) -> KeyBindings:
    """Return the prompt's keys.

    Enter sends, Ctrl-J and Alt-Enter insert a line break, Ctrl-G opens $EDITOR, Ctrl-C clears. In
    an edit, Ctrl-C and Esc end the prompt with EOFError.

    on_idle_interrupt: called for a Ctrl-C when nothing is typed.
    is_editing: whether the prompt holds an earlier message that is being changed.
    """
    bindings = KeyBindings()

    @bindings.add("enter")
    def _send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if is_open_block(buffer.text):
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @bindings.add("c-j")
    @bindings.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("c-g")
    def _edit(event: KeyPressEvent) -> None:
        event.current_buffer.open_in_editor()

    @bindings.add("c-c", filter=Condition(is_editing))
    @bindings.add("<sigint>", filter=Condition(is_editing))
    @bindings.add("escape", filter=Condition(is_editing))
    def _cancel(event: KeyPressEvent) -> None:
        event.app.exit(exception=EOFError)

    @bindings.add("c-c", filter=~Condition(is_editing))
    @bindings.add("<sigint>", filter=~Condition(is_editing))
    def _interrupt(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if not buffer.text:
            on_idle_interrupt()
        buffer.reset()

    return bindings


class CommandCompleter(Completer):
    """Completes the names of commands, and their arguments."""

    def __init__(self, session: ChatSession) -> None:
        self._session = session
        self._paths = PathCompleter(expanduser=True)

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        typed = document.text_before_cursor
        if not is_command(typed) or "\n" in typed:
            return
        name, space, argument = typed[1:].partition(" ")
        if not space:
            for command in COMMANDS:
                if command.name.startswith(name):
                    yield Completion(
                        command.name, -len(name), f"/{command.name}", display_meta=command.help
                    )
            return
        try:
            kind = find(name).argument
        except UsageError:
            return
        for value, meaning in self._values(kind):
            if value.startswith(argument):
                yield Completion(value, -len(argument), display_meta=meaning)
        if kind == "paths":
            yield from self._completed(last_open_path(argument), complete_event)
            if " " in argument and not (whole := open_path(argument)).quote:
                yield from self._completed(whole, complete_event)
        elif kind in ("path", "session", "model"):
            yield from self._completed(open_path(argument), complete_event)
        elif kind == "text" and argument.startswith("@"):
            yield from self._completed(open_path(argument[1:]), complete_event)

    def _completed(self, typed: OpenPath, event: CompleteEvent) -> Iterable[Completion]:
        """Complete a path, in the quotation marks that are typed."""
        for found in self._paths.get_completions(Document(typed.path), event):
            is_folder = found.display_text.endswith("/")
            text = typed.typed_as(typed.path + found.text, is_folder=is_folder)
            yield Completion(text, -len(typed.typed), found.display)

    def _values(self, kind: Argument) -> Iterable[tuple[str, str]]:
        """Return the possible values of an argument of this kind, each with its meaning."""
        if kind == "command":
            return [(command.name, command.help) for command in COMMANDS]
        if kind == "setting":
            return [(name, "") for name in SETTINGS]
        if kind == "session":
            return [(name, "") for name in session_names()]
        if kind == "template":
            return [(name, "") for name in template_names()]
        if kind == "attachment":
            return [(one.name, f"{one.num_tokens:,} tokens") for one in self._session.attachments]
        if kind == "model" and self._session.models:
            with suppress(OSError, L4Error):  # an error must not tear up the line that is typed
                here = self._session.models.installed()
                return [(m.name, human_size(m.n_bytes) if m.n_bytes else "") for m in here]
        if kind == "message":
            nodes = self._session.tree.nodes.values()
            return [(str(node.id), shortened(node.message.content, 40)) for node in nodes]
        return []


def open_history(path: Path) -> History:
    """Open the history of typed lines, in a file that only its owner can read (0600).

    OSError if the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    return FileHistory(str(path))


def no_history() -> History:
    """Return a history that is empty and not saved."""
    return InMemoryHistory()


def prefer_markdown_files(buffer: Buffer) -> None:
    """Give the text a .md suffix in $EDITOR, so that the editor treats it as Markdown."""
    buffer.tempfile_suffix = ".md"
