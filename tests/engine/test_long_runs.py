"""Tokenizing long runs of characters of one class, which overflow the usual stack in llama.cpp."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import L4
from hypothesis import given, settings
from hypothesis import strategies as st
from marks import slow_but
from vocabularies import write_vocabulary

from l4cli.engine.llamacpp import LlamaModel, slow_runs
from l4cli.engine.llamacpp.deep_stack import with_deep_stack
from l4cli.errors import RequestError

# One of each set of regular expressions in src/llama-vocab.cpp.
PRE_TOKENIZERS = (
    "llama4", "gpt-4o", "deepseek-llm", "deepseek-coder", "deepseek-v3", "falcon", "falcon3",
    "tekken", "poro-chat", "viking", "jais-2", "chameleon", "exaone-moe", "tiny_aya", "grok-2",
    "bailingmoe", "seed-coder", "hunyuan", "youtu", "refact", "chatglm-bpe", "minimax-m2", "afmoe",
    "kimi-k2", "qwen2", "llama3", "default", "superbpe",
)  # fmt: skip
QUICK = ("llama4", "gpt-4o", "deepseek-v3", "qwen2", "default")
RUNS = (
    "a",
    "A",
    "aB",
    "ACGT",
    " ",
    "\n",
    " \n",
    "\t",
    "=",
    "7",
    "😀",
    "中",
    "ก",
    "e\u0301",
    "\xa0",
)
N_CHARACTERS = 30_000


@pytest.fixture(scope="module", params=slow_but(QUICK, PRE_TOKENIZERS))
def vocabulary(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LlamaModel]:
    """A vocabulary of bytes that llama.cpp splits by this pre-tokenizer."""
    path = tmp_path_factory.mktemp("pre") / f"{request.param}.gguf"
    model = LlamaModel(write_vocabulary(path, request.param), vocab_only=True)
    yield model
    model.close()


def test_long_runs_are_tokenized_whole(vocabulary: LlamaModel) -> None:
    for run in RUNS:
        text = f"before {run * (N_CHARACTERS // len(run))} after\n"
        ids = vocabulary.tokenize(text)
        assert b"".join(map(vocabulary.piece, ids)).decode() == text, run


DIGIT_MERGES = [f"{a} {b}" for a in "123" for b in "123"] + ["12 3", "31 2", "23 1", "123 1"]


@pytest.fixture(scope="module")
def superbpe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaModel]:
    """A vocabulary with SuperBPE's pre-tokenizer, and tokens of two to four digits."""
    path = tmp_path_factory.mktemp("superbpe") / "superbpe.gguf"
    model = LlamaModel(write_vocabulary(path, "superbpe", merges=DIGIT_MERGES), vocab_only=True)
    yield model
    model.close()


RUNS_OF_DIGITS = st.tuples(st.integers(0, 640), st.sampled_from(["123", "1", "3121", "70", "321"]))
BETWEEN = st.sampled_from(["", " ", "a", "٣", "½", "²", "1", "23", ".", "\n", "é"])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(BETWEEN, RUNS_OF_DIGITS), min_size=1, max_size=2), BETWEEN)
def test_digits_that_are_cut_have_the_ids_of_the_whole_text(
    superbpe: LlamaModel, parts: list[tuple[str, tuple[int, str]]], end: str
) -> None:
    text = "".join(f"{between}{(some * n)[:n]}" for between, (n, some) in parts) + end
    assert superbpe.tokenize(text) == superbpe._tokenize(text, special=False)


def test_a_token_of_digits_of_the_users_own_is_never_cut() -> None:
    assert slow_runs.cuts_digits("superbpe", ["<table>", "<1>", "    "])
    assert not slow_runs.cuts_digits("superbpe", ["<table>", "2024"])
    assert not slow_runs.cuts_digits("llama-bpe", [])
    text = f"a{'7' * 1000}b"
    assert "".join(slow_runs.parts(text)) == text
    assert max(map(len, slow_runs.parts(text))) <= 301


def test_what_would_take_minutes_is_refused_with_its_length() -> None:
    slow_runs.check("jais-2", "x" + " " * 200_000)
    slow_runs.check("jais-2", "x\n" * 200_000)
    slow_runs.check("llama-bpe", "x" + " " * 300_000)
    with pytest.raises(RequestError, match="a run of 10,001 digits"):
        slow_runs.check("superbpe", "x" + "7" * 10_001)
    with pytest.raises(RequestError, match="a run of 300,000 blanks"):
        slow_runs.check("jais-2", "x" + " " * 300_000)


def test_what_is_raised_in_the_thread_arrives() -> None:
    def fail() -> int:
        assert threading.current_thread() is not threading.main_thread()
        raise ValueError("here")

    with pytest.raises(ValueError, match="here"):
        with_deep_stack("x" * 10_000, fail)


def test_a_run_beyond_memory_is_refused_with_its_length() -> None:
    with pytest.raises(RequestError, match="a run of 5,000,000 characters"):
        with_deep_stack("x" * 5_000_000, lambda: 0)


def test_a_long_line_of_short_words_is_not_refused() -> None:
    assert with_deep_stack("word " * 2_000_000, lambda: 1) == 1


def test_a_row_with_a_long_run_harms_no_neighbour(l4: L4, tmp_path: Path) -> None:
    prompts = ["What is GGUF?", "a" * N_CHARACTERS, " " * N_CHARACTERS, "What is GGUF?"]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"prompt": prompt}) for prompt in prompts))
    done = l4("run", "-m", "demo", "--ctx", "2048", str(rows))
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1, done.stderr
    assert answers[0]["text"] == answers[3]["text"]
    assert all("tokens" in answer["error"]["message"] for answer in answers[1:3])
