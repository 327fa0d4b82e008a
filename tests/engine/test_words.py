"""Texts that are tokenized word by word get the ids that llama.cpp gives the whole text."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import llama_cpp
import pytest
from conftest import ROOT
from hypothesis import example, given, settings
from hypothesis import strategies as st

import convert
from l4cli.engine.llamacpp import LlamaModel
from l4cli.engine.llamacpp.words import PRE_TOKENIZERS, Words
from l4cli.errors import RequestError

PIECES = [
    *["a", "B", "Ab", "HTTPServer", "don't", "WE'LL", "'s", "'", "x'S", "1", "12", "12345", "0"],
    *[" ", "  ", "\n", "\r\n", "\t", " \n", "\n/", "\v", "\f", "\x00", "\x1c", "\x7f"],
    *[".", "...", "!?", "/", " (", "}:", "_", "<|eot|>", " and", "naïve", "e\u0301", " “so", "”"],
    *["é", "中文", "\u2028", "\u00a0", "’s", "…", "🦙"],
]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaModel]:
    """The demo model's vocabulary: it is trained, so tokens have many lengths."""
    path = tmp_path_factory.mktemp("gguf") / "demo.gguf"
    convert.convert(convert.plan(ROOT / "l4cli/demo/checkpoint", "Q8_0"), path)
    model = LlamaModel(path, vocab_only=True)
    yield model
    model.close()


def whole(model: LlamaModel, text: str) -> list[int]:
    data = text.encode()
    ids = (llama_cpp.llama_token * (len(data) + 8))()
    count = llama_cpp.llama_tokenize(model.vocab, data, len(data), ids, len(ids), False, False)
    return list(ids[:count])


def test_the_demo_vocabulary_goes_by_words(vocabulary: LlamaModel) -> None:
    assert vocabulary.metadata("tokenizer.ggml.pre") in PRE_TOKENIZERS
    assert isinstance(vocabulary._words, Words)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
@example("7 apples\nand 007 more,\n/path  \n\n  end ")
@example("é\nplain line\nplain line 2\n中\n")
@example("“Quoted” words, naïve ones — and 中文 / more\n/path/é a b  c")
def test_ids_are_those_of_the_whole_text(vocabulary: LlamaModel, text: str) -> None:
    assert vocabulary.tokenize(text) == whole(vocabulary, text)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_ids_of_any_text(vocabulary: LlamaModel, text: str) -> None:
    assert vocabulary.tokenize(text) == whole(vocabulary, text)


def test_ids_of_whole_files(vocabulary: LlamaModel) -> None:
    for name in ("README.md", "CHANGELOG.md", "training/corpus/guide/chinese.toml", "models.toml"):
        text = (ROOT / name).read_text("utf8")
        assert vocabulary.tokenize(text) == vocabulary.tokenize(text) == whole(vocabulary, text)


def test_each_word_is_given_once() -> None:
    given: list[str] = []

    def tokenize(text: str) -> list[int]:
        given.append(text)
        return list(text.encode())

    words = Words(tokenize)
    assert words.ids("the valve and the pump") == list(b"the valve and the pump")
    assert words.ids("the pump and the valve") == list(b"the pump and the valve")
    assert len(given) == 1
    assert words.ids("the pumps") == list(b"the pumps")
    assert given[1:] == ["\n pumps\n"]


def test_a_text_of_odd_ends_goes_whole() -> None:
    given: list[str] = []

    def tokenize(text: str) -> list[int]:
        given.append(text)
        return list(text.encode())

    text = "".join(f"{'é' * n}\n x\n" for n in range(1, 20))
    assert Words(tokenize).ids(text) == list(text.encode())
    assert given == [text]


def test_what_is_long_is_not_kept() -> None:
    words = Words(lambda text: list(text.encode()))
    for n in range(20):
        text = f"{'a' * 10_000}{n} and more"
        assert words.ids(text) == list(text.encode())
    assert sum(map(len, words._known)) < 2000


def test_a_lone_surrogate_is_told_by_its_place(vocabulary: LlamaModel) -> None:
    with pytest.raises(RequestError, match=r"at character 2201$"):
        vocabulary.tokenize("plain line\n" * 200 + "x\ud800")


def test_tokens_of_the_users_own_are_found_across_words(tmp_path: Path) -> None:
    """llama.cpp looks for such tokens before it splits a text into words, whatever they contain."""
    checkpoint = shutil.copytree(ROOT / "l4cli/demo/checkpoint", tmp_path / "checkpoint")
    path = checkpoint / "tokenizer.json"
    tokenizer = json.loads(path.read_text("utf8"))
    (own,) = (entry for entry in tokenizer["added_tokens"] if entry["content"] == "<|fim_middle|>")
    own |= {"content": "[its own]", "special": False}
    path.write_text(json.dumps(tokenizer), "utf8")
    convert.convert(convert.plan(checkpoint, "Q8_0"), tmp_path / "own.gguf")
    model = LlamaModel(tmp_path / "own.gguf", vocab_only=True)
    assert own["id"] in model.tokenize("one [its own] two")
    model.close()
