"""Shared code for the tests of the chat: a model that recites a text, and an LLM without weights.

`write_reciter` makes a real Llama 4 GGUF in which each token depends only on the token before it.
So its answer is known on any machine. It generates single bytes where its tokenizer would merge
them, as real models sometimes do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from checkpoints import SPECIAL_IDS, read_weights, write_checkpoint, write_shards
from fakes import BOS, EOG, FakeBackend
from terminal import Terminal

import convert
from l4cli.chat.commands.table import run_command
from l4cli.chat.session import ChatSession
from l4cli.errors import RequestError
from l4cli.loading.llm import LLM

RECITED = "the lampékings-of."


def write_reciter(directory: Path, *, ends: bool = False, recited: str = RECITED) -> Path:
    """Write a GGUF that answers everything with `recited`; return its path.

    directory: where the checkpoint and the GGUF go.
    ends: whether the answer ends after one recital; if not, it goes on for ever.
    recited: the text. A text other than `RECITED`, such as a call, gets no chat template of its
        own; l4 then uses Llama 4's, which supports tools.
    """
    source = write_checkpoint(directory / "reciter", dtype="F32")
    if recited != RECITED:
        config = json.loads((source / "tokenizer_config.json").read_text("utf-8"))
        del config["chat_template"]
        (source / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    name = "brief.gguf" if ends else "endless.gguf"
    return _write_chain(source, _successors(source, ends, recited), directory / name)


def _write_chain(source: Path, successors: Mapping[int, int], path: Path) -> Path:
    """Convert a checkpoint after each of whose tokens its successor follows."""
    weights = read_weights(source)
    for name, weight in weights.items():
        if name.endswith(("o_proj.weight", "down_proj", "down_proj.weight")):
            weight[:] = 0  # the blocks add nothing: the output is the last token's embedding
    weights["model.norm.weight"][:] = 1
    weights["lm_head.weight"][:] = 0
    for token, following in successors.items():
        weights["lm_head.weight"][following] += weights["model.embed_tokens.weight"][token]
    write_shards(source, weights, dtype="F32", shards=2)
    convert.convert(convert.plan(source, "F32"), path)
    return path


def _successors(source: Path, ends: bool, text: str) -> dict[int, int]:
    """Return the token that follows each token: first a line break, then the text's bytes."""
    vocab = json.loads((source / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    line_break, *recited = (
        # GPT-2's byte alphabet: a printable byte stands for itself, a blank is moved up by 256
        vocab[chr(byte if byte > 32 else 256 + byte)]
        for byte in f"\n{text}".encode()
    )
    assert len(set(recited)) == len(recited), "a byte occurs twice: it has no unique successor"
    last = SPECIAL_IDS["<|eot|>"] if ends else recited[0]
    successors = dict(zip([line_break, *recited], [*recited, last], strict=True))
    for text, id_ in vocab.items():  # a merged token has the successor of its last byte
        if len(text) > 1 and vocab[text[-1]] in successors:
            successors[id_] = successors[vocab[text[-1]]]
    return successors


_BOS, _EOT, _USER, _ASSISTANT, _SYSTEM = BOS, EOG, 258, 259, 260


class FakeVocabulary:
    """A vocabulary of bytes, with a control token for each part of the chat format."""

    n_vocab = 261
    special_tokens: Mapping[str, int] = {
        "<bos>": _BOS,
        "<eot>": _EOT,
        "<user>": _USER,
        "<assistant>": _ASSISTANT,
        "<system>": _SYSTEM,
    }
    bos_token: int | None = _BOS
    eos_token: int | None = _EOT
    adds_bos = True
    chat_template: str | None = (
        "{% for message in messages %}<{{ message.role }}>{{ message.content }}<eot>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        try:
            return list(text.encode())
        except UnicodeEncodeError:  # as a real vocabulary does
            raise RequestError("the text holds a lone surrogate") from None

    def token_text(self, token: int | None) -> str:
        return next((text for text, id_ in self.special_tokens.items() if id_ == token), "")


class FakeChatBackend(FakeBackend):
    """Answers with the last question in upper case, or with `answer(question)` if given."""

    def next_token(self, seq_id: int) -> int:
        cells = self.cells[seq_id]
        begin = len(cells) - cells[::-1].index(_ASSISTANT)
        question = cells[len(cells) - cells[::-1].index(_USER) : begin - 2]
        answer = self.answer(bytes(question).decode()).encode()
        said = len(cells) - begin
        return answer[said] if said < len(answer) else EOG


def fake_llm(answer: Callable[[str], str] | None = None, **sizes: Any) -> LLM:
    """Return an LLM with a FakeChatBackend; `answer` maps the last question to the answer."""
    backend = FakeChatBackend(**{"n_seq_max": 1, **sizes}, answer=answer)
    return LLM("fake", FakeVocabulary(), backend)


class RecordingView:
    """An AnswerView that records its calls."""

    def __init__(self, shown: str = "") -> None:
        self.text = shown
        self.progressed: list[tuple[int, int]] = []
        self.is_closed = False

    def progress(self, done: int, total: int) -> None:
        self.progressed.append((done, total))

    def write(self, text: str) -> None:
        self.text += text

    def close(self) -> None:
        self.is_closed = True


class FakeUi:
    """A user with prepared reactions: `answers` to questions, and `edited` as the changed text."""

    width = 79

    def __init__(self) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.answers: list[str] = []
        self.edited: str | None = None
        self.copied: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def ask(self, question: str) -> str:
        self.asked.append(question)
        return self.answers.pop(0) if self.answers else ""

    def edit(self, text: str) -> str | None:
        return self.edited

    def copy(self, text: str) -> str:
        self.copied.append(text)
        return "to the clipboard"


class Chat:
    """A session, with records of its views and of the user interface."""

    def __init__(self, llm: LLM | None = None, **options: Any) -> None:
        self.views: list[RecordingView] = []
        self.ui = FakeUi()
        self.llm = llm or fake_llm()
        self.session = ChatSession(self.llm, self._view, **options)

    def _view(self, shown: str) -> RecordingView:
        self.views.append(RecordingView(shown))
        return self.views[-1]

    def run(self, line: str) -> str:
        """Run a command; return the lines that it showed."""
        self.ui.said.clear()
        run_command(self.session, line, self.ui)
        return "\n".join(self.ui.said)

    @property
    def contents(self) -> list[str]:
        return [message.content for message in self.session.conversation.messages]


IDLE = r"tokens( · .*)?$"  # the end of the bar below the prompt


def is_idle(terminal: Terminal) -> bool:
    """Whether the screen shows a prompt, and the bar as its last line."""
    lines = terminal.lines()
    return bool(lines and re.search(r"\d tokens( · .*)?$|^\d+/\d+", lines[-1])) and any(
        line.startswith(">") for line in lines
    )


THOUGHT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|header_start|>' + message.role + '<|header_end|>\n\n' -}}"
    "{{- message.content.split('</think>')[-1] + '<|eot|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|header_start|>assistant<|header_end|>\n\n' -}}"
    "{%- endif -%}"
)


def write_thinker(directory: Path) -> Path:
    """Write a GGUF that answers everything with `<think>hm</think>Ok`; return its path.

    Both tags are tokens with a text, and the template cuts thoughts out of earlier answers.
    """
    source = write_checkpoint(directory / "thinker", dtype="F32")
    path = source / "tokenizer.json"
    tokenizer = json.loads(path.read_text("utf-8"))
    tags = {"<|fim_prefix|>": "<think>", "<|fim_suffix|>": "</think>"}
    for entry in tokenizer["added_tokens"]:
        if entry["content"] in tags:
            entry |= {"content": tags[entry["content"]], "special": False}
    path.write_text(json.dumps(tokenizer), "utf-8")
    config = json.loads((source / "tokenizer_config.json").read_text("utf-8"))
    config["chat_template"] = THOUGHT_TEMPLATE
    (source / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    vocab = tokenizer["model"]["vocab"]
    think, end = (SPECIAL_IDS[tag] for tag in tags)
    chain = [vocab[chr(256 + 10)], think, vocab["h"], vocab["m"], end, vocab["O"], vocab["k"]]
    chain.append(SPECIAL_IDS["<|eot|>"])
    return _write_chain(source, dict(pairwise(chain)), directory / "thinker.gguf")
