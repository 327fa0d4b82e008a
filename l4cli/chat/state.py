"""What a running chat is: its model, tree, settings, attached files, and the file that keeps it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from l4cli import console
from l4cli.chat.attachments import Attachment, documents_of
from l4cli.chat.history import export as storage
from l4cli.chat.history.conversation import Conversation
from l4cli.chat.history.log import SessionLog
from l4cli.chat.history.session_file import SessionFile
from l4cli.chat.history.tree import ROOT, Tree
from l4cli.chat.model import ChatModel
from l4cli.chat.models import Models
from l4cli.chat.settings import SETTINGS, changed
from l4cli.chat.tokens import ConversationTokens
from l4cli.chat.tools.rounds import ToolRounds
from l4cli.chat.totals import Totals
from l4cli.chat.turn import AnswerView
from l4cli.documents import Document
from l4cli.documents.prompt import DocumentPrompt
from l4cli.engine.answer import Answer
from l4cli.engine.types import Constraint, SamplingParams
from l4cli.errors import (
    ContextOverflowError,
    InputError,
    L4Error,
    ModelError,
    RequestError,
)
from l4cli.loading.llm import LLM
from l4cli.native import watcher
from l4cli.speeds import Conditions

NEARLY_FULL = 0.85


class ChatState:
    """One conversation, with one model at a time.

    llm: the model.
    view: makes the view in which the next answer appears. Its argument is the text that the answer
        already has when it is continued, else "".
    system: the system message; None for that of the session file, if any.
    sampling: sampling settings; None as a value means that it is not given.
    file: the session file that keeps the conversation; None to keep nothing.
    conditions: what the speeds in `l4cli.speeds` depend on; None to neither use nor save them.
    rounds: runs the tools that the model calls; None for a chat without tools.
    models: the models that the chat can switch to (`switching.py`); None for none.

    The attribute `constraint` is what every answer must match; None for anything.

    If a method raises an error, the conversation is as it was before, with one exception: after an
    OutputError the change was made, but not written to the file.
    """

    def __init__(
        self,
        llm: LLM,
        view: Callable[[str], AnswerView],
        *,
        system: str | None = None,
        sampling: Mapping[str, Any] | None = None,
        file: SessionFile | None = None,
        conditions: Conditions | None = None,
        rounds: ToolRounds | None = None,
        models: Models | None = None,
    ) -> None:
        self._rounds = rounds
        self._has_conditions = conditions is not None
        self.model = self._in_chat(llm, conditions)
        self.models = models
        self.tree = Tree()
        self.sampling: dict[str, Any] = {}
        self.constraint: Constraint | None = None
        self.attachments: list[Attachment] = []
        # One line for each part of the session file that could not be read.
        self.losses: tuple[str, ...] = ()
        self.log: SessionLog | None = None
        self._view = view
        if file:
            self.open(file)
        self.sampling |= {
            key: value for key, value in (sampling or {}).items() if value is not None
        }
        self.params()  # raises an error for a wrong setting before the first question
        if rounds and not llm.encoder.takes_tools:
            raise ModelError(f"{llm.name} has a chat template that does not support tools")
        if system is not None:
            self.tree = self.tree.with_system(system)

    # The model.

    @property
    def rounds(self) -> ToolRounds | None:
        """Runs the tools that the model calls; None if it is told of none."""
        return self._rounds if self.model.tokens.tools is not None else None

    @property
    def has_unused_tools(self) -> bool:
        """Whether this chat has tools that the model's chat template does not take."""
        return self._rounds is not None and self.rounds is None

    def has_weights_of(self, llm: LLM) -> bool:
        """Whether this is the chat's model, perhaps under another name."""
        return bool(llm.fingerprint) and llm.fingerprint == self.llm.fingerprint

    def require(self, llm: LLM) -> None:
        """Raise ModelError unless the conversation can go on with this model."""
        model, conversation = self._in_chat(llm), self._tree_for(llm).conversation
        if not conversation.messages:
            return
        try:
            count = len(model.tokens.of(conversation))
        except RequestError as error:
            raise ModelError(f"{llm.name} cannot go on with this conversation: {error}") from None
        if count >= llm.n_ctx:
            raise ModelError(
                f"the conversation has {count:,} tokens for {llm.name}, whose context holds "
                f"{llm.n_ctx:,}: /compact or /clear makes room"
            )

    def use(self, llm: LLM) -> None:
        """Go on with another model, or with the same one, loaded again.

        Answers of other weights lose their token ids. Totals begin anew with another model. Raises
        ModelError, and changes nothing, if the conversation cannot go on with another model.
        """
        tree, is_same = self._tree_for(llm), self.has_weights_of(llm)
        if not is_same:
            self.require(llm)
        model = self._in_chat(llm, llm.conditions if self._has_conditions else None)
        if tree.head != ROOT:
            model.recall(tree.conversation)
        if is_same:
            model.go_on_from(self.model)
        else:
            self.model.keep_speeds()
            if self.log:
                self.log.go_on_with(llm.name, llm.fingerprint, tree)
        self.model, self.tree = model, tree
        self.attachments[:] = [
            replace(one, num_tokens=self.tokens.count_text(one.text)) for one in self.attachments
        ]

    def unload(self) -> None:
        """Free the model, whose KV cache is stored; `use` must follow before anything else."""
        if self.log and self.log.file.exists:
            self.model.store(self.conversation)
        self.model.unload()

    def _in_chat(self, llm: LLM, conditions: Conditions | None = None) -> ChatModel:
        """Return the model with the tools of this chat, if its chat template takes any."""
        offered = self._rounds if llm.encoder.takes_tools else None
        tools = offered.toolbox.schemas if offered else None
        return ChatModel(llm, tools=tools, conditions=conditions)

    def _tree_for(self, llm: LLM) -> Tree:
        return self.tree if self.has_weights_of(llm) else self.tree.without_token_ids()

    @property
    def llm(self) -> LLM:
        return self.model.llm

    @property
    def tokens(self) -> ConversationTokens:
        return self.model.tokens

    @property
    def n_ctx(self) -> int:
        return self.model.n_ctx

    @property
    def last(self) -> Answer | None:
        """The last answer that was generated; None if there is none."""
        return self.model.last

    @property
    def totals(self) -> Totals:
        return self.model.totals

    # The tree, and the context that it takes up.

    def become(self, tree: Tree) -> None:
        """Replace the current tree by `tree`, which was made from it; write the difference."""
        self.tree = tree
        self._save()
        if self.log and self.model.is_store_due:
            self.model.store(self.conversation)

    @property
    def conversation(self) -> Conversation:
        return self.tree.conversation

    @property
    def num_tokens(self) -> int:
        """How many tokens of the context the conversation takes up."""
        return self.model.num_tokens(self.conversation)

    @property
    def is_nearly_full(self) -> bool:
        return self.num_tokens >= NEARLY_FULL * self.n_ctx

    def undo(self) -> str:
        """Take back the last question and its answer; return the question's text."""
        question = self.tree.last_question()
        self.become(self.tree.at(question.parent))
        return question.message.content

    def clear(self) -> None:
        """Start an empty conversation; the old messages stay in the tree."""
        self.attachments.clear()
        self.become(self.tree.at(ROOT))

    def set_system(self, text: str | None) -> None:
        self.become(self.tree.with_system(text))

    # Files and settings.

    def attach(self, name: str, text: str, document: Document | None = None) -> Attachment:
        """Attach a text to the next question.

        Documents come first if that question is the first of the conversation. ContextOverflowError
        if the text does not fit the rest of the context.
        """
        attachment = Attachment(name, text, self.tokens.count_text(text), document)
        left = self.n_ctx - self.num_tokens - sum(a.num_tokens for a in self.attachments)
        if attachment.num_tokens >= left:
            raise ContextOverflowError(
                f"{name} has {attachment.num_tokens:,} tokens, {left:,} of {self.n_ctx:,} are "
                "free: /clear or /compact makes room, a larger --ctx gives more"
            )
        self.attachments.append(attachment)
        return attachment

    def documents(self) -> DocumentPrompt | None:
        """Return the attached documents as the beginning of a prompt, the same as in `l4 ask`.

        None if no documents are attached, or if the chat template changes messages.
        """
        return self.model.documents(documents_of(self.attachments), self.tree.system)

    def reading_seconds(self, num_tokens: int) -> float | None:
        """Return the seconds that prefilling so many more tokens takes; None if unknown."""
        return self.model.pace.reading_seconds(num_tokens, self.num_tokens, self.totals)

    def params(self) -> SamplingParams:
        """Return the sampling parameters of the next answer."""
        return self.llm.params_of_answer(**self.sampling, constraint=self.constraint)

    def set(self, name: str, value: str) -> None:
        """Change a sampling setting; "default" resets it. UsageError for a wrong name or value."""
        sampling = changed(self.sampling, name, value)
        self.llm.params(**sampling)
        self.sampling = sampling
        self._save()

    # On disk.

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the messages that lead to the head to a file (`export.py`).

        overwrite: whether to replace a file that is not a saved conversation, too.
        """
        if overwrite:
            storage.write(self.conversation, path)
        else:
            storage.save(self.conversation, path)

    def load(self, path: Path) -> None:
        """Load saved messages as a new branch and make its end the head."""
        loaded = storage.load(path)
        self.attachments.clear()
        self.losses = ()
        self.become(self.tree.at(ROOT).with_system(loaded.system).said(*loaded.messages))

    def open(self, file: SessionFile) -> None:
        """Switch to the session in `file`, and restore its KV cache if it is stored.

        `losses` then tells which parts of the file could not be read. InputError if the file is not
        a session; it is then closed, and the chat stays as it was.
        """
        log = SessionLog(file, self.llm.name, self.llm.fingerprint)
        try:
            found = log.read(self.tokens.is_text)
        except InputError:
            file.close()
            raise
        self.close()
        self.log, self.losses, self.tree = log, found.losses, found.tree
        again = console.command_line("--session", file.name, without=("-c", "--continue"))
        watcher.tell(f"every finished turn is in the session {file.name}", f"go on with: {again}")
        self.sampling = {k: v for k, v in found.settings.items() if k in SETTINGS}
        try:
            self.params()
        except L4Error as error:
            self.sampling = {}
            self.losses += (f"its settings: {error}",)
        self.attachments.clear()
        if self.tree.head != ROOT:
            self.model.recall(self.conversation)

    @property
    def file(self) -> SessionFile | None:
        """The session file; None if this chat is not kept."""
        return self.log.file if self.log else None

    def close(self) -> None:
        """Store the KV cache of the session and close its file; idempotent."""
        self.model.keep_speeds()
        if self.log and self.log.file.exists:
            self.model.store(self.conversation)
            self.log.file.close()
        self.log = None

    def _save(self) -> None:
        if self.log:
            self.log.write(self.tree, self._settings())

    def _settings(self) -> dict[str, Any]:
        """The settings that the session file keeps."""
        return {key: value for key, value in self.sampling.items() if key in SETTINGS}
