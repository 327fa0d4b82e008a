"""Going back in a chat is exact, on both sides of a chunk's end: on a real Llama 4, bit for bit.

The engine is deterministic here, so that prompts are computed in the same pieces whatever came
before; what is left to differ is what rolling back left in the KV cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from chat_support import RecordingView
from checkpoints import write_checkpoint

import convert
from l4cli import load
from l4cli.chat.history.tree import Tree
from l4cli.chat.session import ChatSession
from l4cli.loading.llm import LLM

CHUNK = 8192


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    """A Llama 4 as small as can be: two chunks of it are read several times."""
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
    """A chat at its beginning, or at a tree whose words the engine has not seen."""
    llm.engine.scheduler.forget()
    made = ChatSession(llm, RecordingView, sampling={"temperature": 0.0, "max_tokens": 1})
    made.tree = tree or made.tree
    return made


def logits(llm: LLM) -> npt.NDArray[np.float32]:
    """What the answer's one token was drawn from."""
    return llm.engine.backend.logits(0).copy()  # type: ignore[attr-defined, no-any-return]


def fresh_logits(llm: LLM, tree: Tree) -> npt.NDArray[np.float32]:
    """The same for a conversation's last answer, computed from its first token on."""
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
    # Behind the end of the chunk: what was said before is taken up again.
    chat.undo()
    beyond = chat.ask("and the other?")
    assert beyond.num_cached_tokens >= CHUNK
    behind, there = logits(llm), chat.tree
    # Before it: its keys are gone, and nothing may be taken for there that is not.
    before = chat.edit(3, "and?")
    assert before is not None
    assert before.num_prompt_tokens < CHUNK
    assert before.num_cached_tokens == 0
    # Within the chunk at hand again.
    near = chat.edit(chat.tree.head - 1, "or?")
    assert near is not None
    assert near.num_cached_tokens > 7000
    within, here = logits(llm), chat.tree

    assert np.array_equal(behind, fresh_logits(llm, there))
    assert np.array_equal(within, fresh_logits(llm, here))


def _words(count: int) -> str:
    """A text of nearly so many tokens."""
    return " ".join(["hello world and the llama"] * (count // 7))
