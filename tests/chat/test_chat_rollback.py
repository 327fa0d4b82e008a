"""Going back in a chat is exact, bit for bit, before and after the end of an attention chunk.

The model is a real, tiny Llama 4. The engine runs in its deterministic mode: prompts are always
computed in the same pieces. So only a wrong KV cache after the rollback could change the logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from chat_support import RecordingView
from checkpoints import write_checkpoint

import convert
from l4cli import load
from l4cli.chat.history.session_file import SessionFile
from l4cli.chat.history.tree import Tree
from l4cli.chat.session import ChatSession
from l4cli.loading.llm import LLM

CHUNK = 8192


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    """A Llama 4 as small as possible, because the test prefills two chunks several times."""
    folder = tmp_path_factory.mktemp("small")
    write_checkpoint(
        folder / "small",
        dtype="F32",
        hidden_size=64,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=32,
        intermediate_size=64,
        intermediate_size_mlp=64,
        num_local_experts=2,
    )
    convert.convert(convert.plan(folder / "small", "F32"), folder / "small.gguf")
    with load(folder / "small.gguf", ctx=10240, deterministic=True, threads=1) as llm:
        yield llm


def session(llm: LLM, tree: Tree | None = None) -> ChatSession:
    """Return a new chat, empty or with `tree`; the engine holds no tokens of it."""
    llm.engine.scheduler.forget()
    made = ChatSession(llm, RecordingView, sampling={"temperature": 0.0, "max_tokens": 1})
    made.tree = tree or made.tree
    return made


def logits(llm: LLM) -> npt.NDArray[np.float32]:
    """Return the logits from which the answer's only token was sampled."""
    return llm.engine.backend.logits(0).copy()  # type: ignore[attr-defined, no-any-return]


def fresh_logits(llm: LLM, tree: Tree) -> npt.NDArray[np.float32]:
    """Return the logits for the last answer of `tree`, all its tokens computed again."""
    answer = session(llm, tree).regenerate()
    assert answer.num_cached_tokens == 0
    return logits(llm)


def test_branches_are_exact_on_both_sides_of_a_chunk_s_end(llm: LLM) -> None:
    chat = session(llm)
    first = chat.ask(_words(8000))
    assert first.num_prompt_tokens < CHUNK - 100
    crossing = chat.ask(_words(300))
    assert crossing.num_prompt_tokens > CHUNK
    chat.ask(_words(400))
    # After the end of the chunk: the tokens before the last question are reused.
    chat.undo()
    beyond = chat.ask("and the other?")
    assert beyond.num_cached_tokens >= CHUNK
    behind, there = logits(llm), chat.tree
    # Before the end of the chunk: its keys are gone, so nothing may be reused.
    before = chat.edit(3, "and?")
    assert before is not None
    assert before.num_prompt_tokens < CHUNK
    assert before.num_cached_tokens == 0
    # Within the current chunk: its tokens are reused.
    near = chat.edit(chat.tree.head - 1, "or?")
    assert near is not None
    assert near.num_cached_tokens > 7000
    within, here = logits(llm), chat.tree

    assert np.array_equal(behind, fresh_logits(llm, there))
    assert np.array_equal(within, fresh_logits(llm, here))


def _words(count: int) -> str:
    """Return a text of about `count` tokens."""
    return " ".join(["hello world and the llama"] * (count // 7))


def test_a_greedy_answer_made_again_has_the_same_logits(tiny_gguf: Path, tmp_path: Path) -> None:
    """Also in a new chat with the session: the question is computed in one piece, as at first."""
    path = tmp_path / "talk.jsonl"

    def opened(llm: LLM) -> ChatSession:
        greedy = {"temperature": 0.0, "max_tokens": 3}
        return ChatSession(llm, RecordingView, sampling=greedy, file=SessionFile(path))

    with load(tiny_gguf, ctx=2048, store=True) as llm:
        chat = opened(llm)
        chat.ask(_words(40))
        answer = chat.ask(_words(70))
        first = logits(llm)
        assert chat.regenerate().token_ids == answer.token_ids
        assert np.array_equal(logits(llm), first)
        chat.close()
    with load(tiny_gguf, ctx=2048, store=True) as llm:
        chat = opened(llm)
        again = chat.regenerate()
        assert again.num_cached_tokens == answer.num_cached_tokens > 0
        assert np.array_equal(logits(llm), first)
        chat.set("temperature", "0.5")
        assert chat.regenerate().num_cached_tokens > answer.num_cached_tokens
