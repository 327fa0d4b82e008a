"""/model: a running chat goes on with another model, or keeps its own and says why."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from chat_support import Chat, FakeChatBackend, FakeVocabulary, is_idle, write_reciter
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from terminal import CTRL_D, ENTER, TAB, Terminal

from l4cli import console
from l4cli.amounts import tokens
from l4cli.chat.history.session_file import SessionFile
from l4cli.chat.models import Installed
from l4cli.chat.terminal.editing import CommandCompleter
from l4cli.chat.tools.rounds import ToolRounds
from l4cli.commands.chat_models import ModelsHere
from l4cli.errors import L4Error, ModelLoadError, ModelNotFoundError, UsageError
from l4cli.loading.file import ModelFile
from l4cli.loading.llm import LLM
from l4cli.loading.load import find_model, load_file
from l4cli.loading.options import LoadOptions
from l4cli.signals import GivenUpError, ignore_interrupts

TAKES_TOOLS = "{% if tools %}<system>{{ tools | tojson }}<eot>{% endif %}" + (
    FakeVocabulary.chat_template or ""
)


class WithoutTemplate(FakeVocabulary):
    chat_template = None


class WithTools(FakeVocabulary):
    chat_template = TAKES_TOOLS


def model(
    name: str,
    answer: Callable[[str], str] | None = None,
    vocabulary: FakeVocabulary | None = None,
    sampling: dict[str, float] | None = None,
    **sizes: Any,
) -> LLM:
    backend = FakeChatBackend(**{"n_seq_max": 1, **sizes}, answer=answer)
    file = cast(ModelFile, SimpleNamespace(name=name, fingerprint=f"of {name}", questions=()))
    return LLM(name, vocabulary or FakeVocabulary(), backend, file=file, sampling=sampling)


@dataclass
class FakeModels:
    """Models that are made when they are opened; `errors` are raised by the next openings."""

    makers: dict[str, Callable[[], LLM]]
    errors: list[BaseException | None] = field(default_factory=list)
    opened: list[LLM] = field(default_factory=list)

    def installed(self) -> Iterable[Installed]:
        return [Installed(name, 1 << 20) for name in self.makers]

    def find(self, name: str) -> ModelFile:
        if name not in self.makers:
            raise ModelNotFoundError(f"no file and no model named {name!r}")
        return cast(ModelFile, SimpleNamespace(name=name))

    def vocabulary(self, file: ModelFile) -> LLM:
        return self.makers[file.name]()

    def open(self, file: ModelFile, *, is_needed: bool = False) -> LLM:
        if self.errors and (error := self.errors.pop(0)):
            raise error
        self.opened.append(self.makers[file.name]())
        return self.opened[-1]


def backwards(question: str) -> str:
    return question[::-1]


def chat(file: Path | None = None, of: str = "upper", **options: Any) -> Chat:
    """A chat with the model "upper", which can switch to the others."""
    makers: dict[str, Callable[[], LLM]] = {
        "upper": lambda: model("upper", vocabulary=WithTools()),
        "back": lambda: model("back", backwards, sampling={"temperature": 0.25, "top_p": 0.5}),
        "plain": lambda: model("plain", vocabulary=WithoutTemplate()),
        "small": lambda: model("small", n_ctx=16),
    }
    kept = SessionFile(file) if file else None
    return Chat(makers[of](), models=FakeModels(makers), file=kept, **options)


def models_of(chat: Chat) -> FakeModels:
    return cast(FakeModels, chat.session.models)


def test_the_conversation_goes_on_with_the_other_model() -> None:
    talk = chat(system="be brief")
    talk.session.ask("hello")
    closed: list[str] = []
    talk.session.llm.on_close = lambda: closed.append("upper")
    assert talk.run("/model back") == f"back · context of {tokens(talk.session.n_ctx)} tokens"
    assert closed == ["upper"]
    assert talk.session.conversation.messages[1].token_ids == ()
    answer = talk.session.ask("and now")
    assert talk.contents == ["hello", "HELLO", "and now", "won dna"]
    told = talk.session.tokens.text(talk.session.tokens.prompt(talk.session.conversation))
    assert answer.num_prompt_tokens <= len(told) + 12
    assert "be brief" in told
    assert talk.session.totals.num_answers == 1  # the speeds of two models are not mixed
    assert talk.session.conversation.messages[3].token_ids == tuple(b"won dna")
    talk.run("/model upper")
    talk.session.regenerate()
    assert talk.contents == ["hello", "HELLO", "and now", "AND NOW"]


def test_a_session_keeps_the_tokens_of_each_model_for_that_model(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    talk = chat(path)
    talk.session.ask("hello")
    talk.run("/model back")
    before = path.read_bytes()
    talk.session.ask("and now")
    talk.session.close()
    assert path.read_bytes().startswith(before)  # nothing that was written is written again
    added = [json.loads(line) for line in path.read_bytes()[len(before) :].splitlines()]
    assert [one.get("model") or one.get("role") for one in added] == ["back", "user", "assistant"]
    for name, with_tokens in (("upper", [1]), ("back", [3]), ("small", [])):
        again = chat(path, of=name)
        assert again.session.losses == ()
        assert again.contents == ["hello", "HELLO", "and now", "won dna"]
        messages = again.session.conversation.messages
        assert [n for n, each in enumerate(messages) if each.token_ids] == with_tokens
        again.session.close()


def test_defaults_are_the_new_model_s_and_settings_the_user_s() -> None:
    talk = chat(sampling={"top_p": 0.75})
    talk.run("/model back")
    params = talk.session.params()
    assert (params.temperature, params.top_p) == (0.25, 0.75)


def load_error() -> L4Error:
    return ModelLoadError("back.gguf: needs 900 GB, 64 GB are free")


@pytest.mark.parametrize(
    ("name", "errors", "reason", "is_loaded_again"),
    [
        ("nosuch", [], "no file and no model named 'nosuch'", False),
        ("plain", [], "plain has no chat template", False),
        ("small", [], "the conversation has 39 tokens for small, whose context holds 16", False),
        ("back", [load_error()], "back.gguf: needs 900 GB", True),
    ],
)
def test_a_model_that_cannot_go_on_leaves_the_old_one(
    tmp_path: Path,
    name: str,
    errors: list[BaseException | None],
    reason: str,
    is_loaded_again: bool,
) -> None:
    path = tmp_path / "talk.jsonl"
    talk = chat(path)
    talk.session.ask("a somewhat longer")
    before, answer = path.read_bytes(), talk.session.last
    models_of(talk).errors = errors
    with pytest.raises(L4Error, match=f"^the chat keeps upper: {reason}"):
        talk.run(f"/model {name}")
    assert [llm.name for llm in models_of(talk).opened] == ["upper"] * is_loaded_again
    assert path.read_bytes() == before
    assert talk.session.last is answer
    assert talk.session.conversation.messages[1].token_ids
    talk.session.ask("more")
    assert talk.contents[-1] == "MORE"
    assert talk.session.totals.num_answers == 2


def test_ctrl_c_while_the_model_loads_keeps_the_old_one() -> None:
    talk = chat()
    talk.session.ask("hello")
    models_of(talk).errors = [GivenUpError(128 + signal.SIGINT)]
    assert talk.run("/model back") == "(stopped; the chat keeps upper)"
    talk.session.ask("more")
    assert talk.contents == ["hello", "HELLO", "more", "MORE"]


def test_sigterm_while_the_model_loads_ends_the_chat(tmp_path: Path) -> None:
    talk = chat(tmp_path / "talk.jsonl")
    talk.session.ask("hello")
    models_of(talk).errors = [GivenUpError(128 + signal.SIGTERM)]
    with pytest.raises(GivenUpError):
        talk.run("/model back")
    assert models_of(talk).opened == []
    talk.session.close()  # with no model there is no KV cache to store


def test_a_conversation_that_fills_the_context_keeps_its_model() -> None:
    talk = chat(of="small")
    talk.session.ask("123456")
    assert talk.session.num_tokens >= talk.session.n_ctx
    models_of(talk).errors = [load_error()]
    with pytest.raises(L4Error, match=r"^the chat keeps small: "):
        talk.run("/model back")
    assert talk.session.model.is_loaded


def test_if_no_model_can_be_loaded_the_error_says_why() -> None:
    talk = chat()
    models_of(talk).errors = [load_error(), ModelLoadError("upper.gguf: no such file")]
    with pytest.raises(L4Error, match=r"needs 900 GB.*; and upper cannot be loaded again: upper"):
        talk.run("/model back")
    assert not talk.session.model.is_loaded


def test_tools_are_kept_for_the_templates_that_take_them() -> None:
    schema = {
        "type": "function",
        "function": {"name": "f", "description": "", "parameters": {"properties": {}}},
    }
    toolbox = SimpleNamespace(schemas=[schema], names=["f"], file=Path("tools.py"))
    rounds = cast(ToolRounds, SimpleNamespace(toolbox=toolbox))
    talk = chat(rounds=rounds)
    assert "its chat template takes no tools" in talk.run("/model back")
    assert talk.session.rounds is None
    with pytest.raises(UsageError, match="the chat template of back takes no tools"):
        talk.run("/tools")
    assert "no tools" not in talk.run("/model upper")
    assert talk.session.rounds is rounds


def test_attached_files_are_counted_anew() -> None:
    talk = chat()
    talk.session.attach("a.txt", "some text")
    talk.run("/model back")
    assert [one.num_tokens for one in talk.session.attachments] == [len("some text")]
    talk.session.ask("?")
    assert talk.contents[0] == "some text\n\n?"


def test_the_models_here_are_listed_and_completed() -> None:
    talk = chat()
    assert talk.run("/model").splitlines()[:3] == [
        f"upper · context of {tokens(talk.session.n_ctx)} tokens",
        "* upper  1.0 MiB",
        "  back   1.0 MiB",
    ]
    found = CommandCompleter(talk.session).get_completions(Document("/model ba"), CompleteEvent())
    assert [one.text for one in found] == ["back"]
    with pytest.raises(UsageError, match="upper is the model of this chat already"):
        talk.run("/model upper")


def test_a_chat_without_models_cannot_switch() -> None:
    with pytest.raises(UsageError, match="cannot switch"):
        Chat().run("/model back")


OTHER = "dog-cuts!"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models on disk: one recites, the other recites something else."""
    first = write_reciter(tmp_path_factory.mktemp("first"), ends=True)
    second = write_reciter(tmp_path_factory.mktemp("second"), ends=True, recited=OTHER)
    return first, second.rename(second.with_name("other.gguf"))


def test_two_real_models_take_turns(two: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = two
    options = LoadOptions(ctx=1024, threads=1)
    llm = load_file(find_model(str(first)), options)
    path = tmp_path / "talk.jsonl"
    talk = Chat(llm, models=ModelsHere(options), file=SessionFile(path))
    talk.session.ask("hello")
    recited = talk.contents[1]
    talk.run(f"/model {second}")
    talk.session.ask("and now")
    assert talk.contents == ["hello", recited, "and now", OTHER]
    with pytest.raises(L4Error, match=r"^the chat keeps other: .*get it with: l4 pull scout"):
        talk.run("/model scout")
    talk.run(f"/model {first}")
    talk.session.regenerate()
    assert talk.contents == ["hello", recited, "and now", recited]
    talk.session.close()
    talk.session.llm.close()


def test_ctrl_c_ends_the_loading(two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = two
    options = LoadOptions(ctx=1024, threads=1)
    talk = Chat(load_file(find_model(str(first)), options), models=ModelsHere(options))
    talk.session.ask("hello")

    @contextmanager
    def pressing_ctrl_c(_label: str) -> Iterator[Callable[[str], None]]:
        yield lambda _text: os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(console, "status", pressing_ctrl_c)
        with ignore_interrupts():
            told = talk.run(f"/model {second}")
    assert told == "(stopped; the chat keeps brief)"
    before = talk.contents[1]
    talk.session.ask("again")
    assert talk.contents[1:] == [before, "again", before]
    talk.session.llm.close()


def test_a_model_is_switched_in_a_terminal(two: tuple[Path, Path]) -> None:
    first, second = two
    command = [sys.executable, "-m", "l4cli", "chat", "-m", str(first), "--ctx", "1024", "-t", "1"]
    with Terminal(command, cwd=second.parent, columns=100) as terminal:
        terminal.wait_for(r"^brief · 0 of 1,024 tokens")
        terminal.type("hello" + ENTER)
        terminal.wait_for(r"the lampékings-of\.")
        terminal.wait_until(lambda: is_idle(terminal), "prompt")
        terminal.type("/model nosuch.gguf" + ENTER)
        terminal.wait_for(r"^l4: the chat keeps brief: nosuch\.gguf: no such file")
        terminal.wait_until(lambda: is_idle(terminal), "prompt")
        terminal.type("/model oth" + TAB)
        terminal.wait_for(r"^> /model other\.gguf$")
        terminal.type(ENTER)
        terminal.wait_for(r"^other · context of 1k tokens$")
        terminal.wait_for(r"^other · \d+ of 1,024 tokens")
        terminal.type("and now?" + ENTER)
        terminal.wait_for(r"^dog-cuts!")
        terminal.wait_until(lambda: is_idle(terminal), "prompt")
        terminal.type(CTRL_D)
        assert terminal.exit_code() == 0
