"""Whole chats, and rows, with models that think first, as their templates show what was thought."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chat_support import Chat, write_thinker
from conftest import GOLDEN, L4
from fakes import EOG
from tagged import Tags, tagged_llm

from l4cli import load
from l4cli.chat.history.session_file import SessionFile
from l4cli.loading.llm import LLM

CHATML = Tags({"<|im_start|>": 260, "<|im_end|>": EOG}, ends=[])
QWEN3 = (GOLDEN / "families/qwen3.jinja").read_text("utf-8")
HEADER = "<|im_start|>assistant\n"
# A template that begins the thought for the model, as those of models that always think.
ALWAYS = QWEN3.replace(
    '{{- "<|im_start|>assistant\\n" -}}', '{{- "<|im_start|>assistant\\n<think>\\n" -}}'
)
assert ALWAYS != QWEN3


class Model:
    """Thinks and answers with numbers; records its prompts."""

    def __init__(self, template: str) -> None:
        self.prompts: list[str] = []
        self.llm: LLM = tagged_llm(CHATML, template, self.answer)

    def answer(self, prompt: str) -> str:
        self.prompts.append(prompt)
        number = len(self.prompts)
        begun = prompt.rpartition(HEADER)[2]
        return f"<think>\nhm {number}\n</think>\n\nAnswer {number}.".removeprefix(begun)


def turns(*pairs: str) -> str:
    """The prompt after these questions and answers, the last of them a question."""
    texts = [
        f"<|im_start|>{role}\n{text}<|im_end|>\n"
        for role, text in zip(("user", "assistant") * len(pairs), pairs, strict=False)
    ]
    return "".join(texts) + HEADER


@pytest.mark.parametrize("template", [QWEN3, ALWAYS], ids=["may", "must"])
def test_what_was_thought_is_shown_once_and_cut_from_later_prompts(template: str) -> None:
    model = Model(template)
    begun = "<think>\n" if template is ALWAYS else ""
    chat = Chat(model.llm)
    for question in ("One?", "Two?", "Three?"):
        chat.session.ask(question)
    assert chat.views[-1].text == "<think>\nhm 3\n</think>\n\nAnswer 3.".removeprefix(begun)
    assert model.prompts[-1] == turns("One?", "Answer 1.", "Two?", "Answer 2.", "Three?") + begun
    last = chat.session.last
    assert last
    # All up to where the thought of the second answer stood is in the KV cache.
    same = turns("One?", "Answer 1.", "Two?")
    assert last.num_cached_tokens == len(CHATML.encode(same))


def test_another_answer_reuses_the_whole_prompt() -> None:
    model = Model(QWEN3)
    chat = Chat(model.llm)
    chat.session.ask("One?")
    chat.session.ask("Two?")
    chat.run("/regen")
    assert model.prompts[-1] == model.prompts[-2]
    last = chat.session.last
    assert last
    assert last.num_cached_tokens == last.num_prompt_tokens - 1
    assert chat.session.conversation.messages[-1].content.endswith("Answer 3.")


@pytest.mark.parametrize("template", [QWEN3, ALWAYS], ids=["may", "must"])
def test_a_thought_that_was_stopped_goes_on(template: str) -> None:
    model = Model(template)
    chat = Chat(model.llm)
    chat.session.sampling["max_tokens"] = 3 if template is ALWAYS else 10
    chat.session.ask("One?")
    chat.session.sampling["max_tokens"] = 500
    stopped = chat.session.conversation.messages[-1].content

    def go_on(prompt: str) -> str:
        return f"1\n</think>\n\nAnswer to {prompt.count('One?')}."

    model.llm.engine.backend.answer = go_on  # type: ignore[attr-defined]
    chat.session.go_on()
    whole = chat.session.conversation.messages[-1].content
    assert whole == f"{stopped}1\n</think>\n\nAnswer to 1."


@pytest.mark.parametrize("template", [QWEN3, ALWAYS], ids=["may", "must"])
def test_a_thought_that_was_stopped_is_no_answer_in_later_prompts(template: str) -> None:
    model = Model(template)
    chat = Chat(model.llm)
    chat.session.sampling["max_tokens"] = 10
    chat.session.sampling["max_tokens"] = 3 if template is ALWAYS else 10
    chat.session.ask("One?")
    chat.session.sampling["max_tokens"] = 500
    chat.session.ask("Two?")
    begun = "<think>\n" if template is ALWAYS else ""
    assert model.prompts[-1] == turns("One?", "", "Two?") + begun


def test_a_session_is_opened_again_with_the_same_prompts(tmp_path: Path) -> None:
    model = Model(QWEN3)
    first = Chat(model.llm, file=SessionFile(tmp_path / "one.jsonl"))
    first.session.ask("One?")
    first.session.ask("Two?")
    before = first.session.tokens.prompt(first.session.conversation)
    first.session.close()
    again = Chat(model.llm, file=SessionFile(tmp_path / "one.jsonl"))
    assert again.session.conversation == first.session.conversation
    assert again.session.tokens.prompt(again.session.conversation) == before
    again.session.ask("Three?")
    assert model.prompts[-1] == turns("One?", "Answer 1.", "Two?", "Answer 2.", "Three?")


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_thinker(tmp_path_factory.mktemp("thinker"))


ARGS = ("--ctx", "2048", "-t", "1", "--temperature", "0")


def test_a_kept_chat_with_a_real_model_goes_on(l4: L4, thinker: Path) -> None:
    """Each question is a process of its own, as in a script."""
    for _ in range(3):
        done = l4("chat", "-m", thinker, *ARGS, "--session", "s", "-p", "One?")
        assert (done.returncode, done.stdout) == (0, "<think>hm</think>Ok\n"), done.stderr


def test_turns_of_a_real_model_reuse_what_the_template_leaves(thinker: Path) -> None:
    with load(str(thinker), ctx=2048, threads=1) as llm:
        chat = Chat(llm, sampling={"temperature": 0})
        for question in ("One?", "Two?", "Three?"):
            chat.session.ask(question)
            assert chat.session.conversation.messages[-1].content == "<think>hm</think>Ok"
        last = chat.session.last
        assert last
        kept = llm.encoder.chat(
            [
                {"role": "user", "content": "One?"},
                {"role": "assistant", "content": "Ok"},
                {"role": "user", "content": "Two?"},
            ]
        )
        assert last.num_cached_tokens == len(kept)
        chat.run("/regen")  # greedy: computed as the first time
        assert chat.session.last
        assert chat.session.last.num_cached_tokens == len(kept)
        chat.run("/set temperature 0.1")
        chat.run("/regen")
        assert chat.session.conversation.messages[-1].content == "<think>hm</think>Ok"
        again = chat.session.last
        assert again
        assert again.num_cached_tokens == again.num_prompt_tokens - 1


def test_rows_of_a_real_model_think_and_then_keep_to_the_schema(
    l4: L4, thinker: Path, tmp_path: Path
) -> None:
    schema = {"type": "object", "properties": {"a": {"const": 7}}, "required": ["a"]}
    schema["additionalProperties"] = False
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    turns = [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "<think>old</think>Ok"},
        {"role": "user", "content": "Two?"},
    ]
    rows = [{"messages": turns}, {"messages": turns, "response_format": form}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = l4("run", "-m", thinker, *ARGS, tmp_path / "rows.jsonl")
    plain, bound = (json.loads(line)["message"] for line in done.stdout.splitlines())
    assert plain["content"] == "<think>hm</think>Ok"
    assert json.loads(bound["content"]) == {"a": 7}
    assert bound["reasoning_content"] == "hm"
