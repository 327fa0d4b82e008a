"""The chat in a terminal: read a line, answer it or run it as a command, read the next one."""

from __future__ import annotations

from prompt_toolkit import PromptSession
from prompt_toolkit.formatted_text import AnyFormattedText
from prompt_toolkit.history import History
from prompt_toolkit.styles import Style

from l4cli import console
from l4cli.amounts import counted, tokens
from l4cli.chat.commands.session import announced
from l4cli.chat.commands.table import LeaveChat, is_command, run_command
from l4cli.chat.session import ChatSession
from l4cli.chat.terminal import editing
from l4cli.chat.terminal.bar import bar_text
from l4cli.chat.terminal.clipboard import copy
from l4cli.chat.terminal.editing import HINT, PROMPT
from l4cli.chat.terminal.plain import PlainScreen
from l4cli.chat.terminal.render import terminal_size
from l4cli.chat.terminal.showing import note, say, width
from l4cli.chat.text import shortened
from l4cli.engine.answer import Answer
from l4cli.errors import EXIT_FAILED, EXIT_HUNG_UP, EXIT_OK, EXITS_THAT_LEAVE, L4Error
from l4cli.paths import state_dir
from l4cli.signals import GivenUpError, ignore_interrupts

_EDIT_HINT = "Enter accepts the edit, Ctrl-C or Esc cancels it"
_STYLE = Style.from_dict({"bottom-toolbar": "noreverse dim", "prompt": "bold", "warning": "bold"})


def chat_loop(session: ChatSession, *, use_history: bool = True) -> int:
    """Chat until the user leaves; return the exit code.

    An L4Error in a line is shown, and the chat goes on. Any other exception ends the chat.
    """
    note(
        f"{session.llm.name} · context of {tokens(session.n_ctx)} tokens · "
        "/help lists commands, Ctrl-D leaves"
    )
    _show_resumed_session(session)
    _suggest_questions(session)
    _tell_functions(session)
    for attachment in session.attachments:
        note(announced(session, attachment))
    screen: _Screen | PlainScreen = PlainScreen()
    if console.moves_cursor():
        screen = _Screen(session, _history() if use_history else editing.no_history())
    if session.rounds:
        session.rounds.note = note
    # The prompt and `generate` handle Ctrl-C themselves. A second one right after the first would
    # otherwise interrupt the code between them.
    with ignore_interrupts():
        code = _converse(session, screen)
        if session.file and session.file.exists and code != EXIT_HUNG_UP:
            console.note(f"(kept as {session.file.name}; l4 chat -c continues it)")
        session.close()
    return code


def _converse(session: ChatSession, screen: _Screen | PlainScreen) -> int:
    try:
        while True:
            if code := _handle(session, screen.read(), screen):
                return code
    except (EOFError, LeaveChat):
        return EXIT_OK


def _show_resumed_session(session: ChatSession) -> None:
    """Show the name and size of a continued session, its losses and its last two messages."""
    if not session.file or not session.file.exists:
        return
    note(
        f"session {session.file.name}: {counted(session.conversation.num_questions, 'question')}, "
        f"{counted(session.num_tokens, 'token')}"
    )
    for loss in session.losses:
        note(f"l4: {session.file.path}: {loss}")
    for message in session.conversation.messages[-2:]:
        mark = PROMPT if message.role == "user" else ""
        note(shortened(f"{mark}{message.content}", 2 * terminal_size()[0]))
    if session.conversation.messages and session.conversation.messages[-1].role == "user":
        note("(this question has no answer yet: /regen answers it, another takes its place)")


def _suggest_questions(session: ChatSession) -> None:
    """At the start of a conversation, show what to ask: what the tools' file says, or models.toml.

    The demo model knows little, and a stranger cannot guess what.
    """
    if session.conversation.messages:
        return
    if session.rounds and session.rounds.toolbox.about:
        note(session.rounds.toolbox.about)
    elif not session.rounds and session.llm.file and session.llm.file.questions:
        note("\n".join(["Try:", *(f"  {text}" for text in session.llm.file.questions)]))


def _tell_functions(session: ChatSession) -> None:
    """Tell which functions the model can call, and where they are from."""
    if session.rounds:
        toolbox = session.rounds.toolbox
        note(f"functions: {', '.join(toolbox.names)} ({toolbox.file})")


def _handle(session: ChatSession, text: str, screen: _Screen | PlainScreen) -> int:
    """Answer a message or run a command; return an exit code if the chat must end, else 0."""
    before = session.last
    try:
        if is_command(text):
            run_command(session, text, screen)
        else:
            session.ask(text)
    except L4Error as error:
        note(f"l4: {error}")
    except GivenUpError as given_up:
        if given_up.exit_code in EXITS_THAT_LEAVE:
            return given_up.exit_code
        note("(stopped before the answer began; nothing was added)")
    if not session.model.is_loaded:
        return EXIT_FAILED
    answer = session.last
    if answer is None or answer is before:
        return EXIT_OK
    if answer.exit_code == EXIT_HUNG_UP:  # there is no terminal to write to any more
        return EXIT_HUNG_UP
    _explain_end(session, answer)
    say("")
    return answer.exit_code if answer.exit_code in EXITS_THAT_LEAVE else EXIT_OK


def _explain_end(session: ChatSession, answer: Answer) -> None:
    """Tell why an answer is incomplete or empty, and what the user can do."""
    if answer.finish_reason == "length" and session.num_tokens >= session.n_ctx - 1:
        note(
            f"(the context of {session.n_ctx:,} tokens is full: /undo, /compact or /clear "
            "makes room, a larger --ctx at the start gives more)"
        )
    elif answer.finish_reason == "length":
        note("(cut off at max_tokens; /continue goes on)")
    elif answer.finish_reason == "abort" and not answer.token_ids:
        note("(stopped before the answer began; nothing was added)")
    elif answer.finish_reason == "abort":
        note("(stopped; /continue goes on)")
    elif not answer.text.strip():
        note("(the answer is empty)")


class _Screen:
    """The `Ui` of the terminal: a prompt, with the state of the session in a bar below it."""

    def __init__(self, session: ChatSession, history: History) -> None:
        self._session = session
        self._hint = ""
        self._is_editing = False
        self._prompt: PromptSession[str] = PromptSession(
            history=history,
            multiline=True,
            key_bindings=editing.key_bindings(self._give_hint, lambda: self._is_editing),
            completer=editing.CommandCompleter(session),
            complete_while_typing=False,
            prompt_continuation=" " * len(PROMPT),
            bottom_toolbar=self._bar,
            style=_STYLE,
            enable_suspend=True,
            reserve_space_for_menu=4,
        )
        editing.prefer_markdown_files(self._prompt.default_buffer)
        self._prompt.default_buffer.on_text_changed += lambda _buffer: self._give_hint("")

    @property
    def width(self) -> int:
        return width()

    def read(self) -> str:
        """Return the next message or command, never empty; EOFError for Ctrl-D."""
        while True:
            text = editing.message_of(self._prompt.prompt([("class:prompt", PROMPT)]))
            if text:
                return text

    def say(self, text: str) -> None:
        say(text)

    def ask(self, question: str) -> str:
        asking: PromptSession[str] = PromptSession(history=editing.no_history(), style=_STYLE)
        try:
            return asking.prompt([("class:prompt", question)])
        except (EOFError, KeyboardInterrupt):
            return ""

    def edit(self, text: str) -> str | None:
        """Put the text into the prompt, to be changed there or (Ctrl-G) in $EDITOR."""
        self._is_editing = True
        try:
            edited = self._prompt.prompt([("class:prompt", PROMPT)], default=text).rstrip()
        except EOFError:
            return None
        finally:
            self._is_editing = False
        if is_command(edited) and not is_command(text):
            answer = self.ask(f"Is {shortened(edited, 30)} the new text of the message? [y/N] ")
            if answer.strip().lower() not in ("y", "yes"):
                return None
        return edited or None

    def copy(self, text: str) -> str:
        return copy(text, lambda codes: console.data(codes, end="", is_styled=True))

    def _give_hint(self, hint: str = HINT) -> None:
        self._hint = hint

    def _bar(self) -> AnyFormattedText:
        session = self._session
        full = session.is_nearly_full
        warning = "nearly full: /compact, /undo, /clear" if full else ""
        text = bar_text(
            terminal_size()[0] - 1,
            session.llm.name,
            session.num_tokens,
            session.n_ctx,
            session.last.generation_tps if session.last else None,
            (_EDIT_HINT if self._is_editing else self._hint) or warning or _attached(session),
        )
        return [("class:warning" if full else "", text)]


def _attached(session: ChatSession) -> str:
    count = len(session.attachments)
    return f"{count} file{'s' if count > 1 else ''} attached" if count else ""


def _history() -> History:
    path = state_dir() / "chat_history"
    try:
        return editing.open_history(path)
    except OSError as error:
        console.warn(f"{path}: {error.strerror}; what you type will not be remembered")
        return editing.no_history()
