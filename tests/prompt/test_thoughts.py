"""What models of each family think first is told apart from what they answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chat_support import Chat
from conftest import GOLDEN
from fakes import EOG
from tagged import Tags as Tokens
from tagged import tagged_llm
from vocabularies import write_vocabulary

from l4cli.batch.rows import read_rows
from l4cli.batch.runner import BatchOptions, run_rows
from l4cli.batch.stats import BatchStats
from l4cli.engine.llamacpp import LlamaModel
from l4cli.engine.thoughts import FAMILIES, THINK, Tags
from l4cli.engine.types import Constraint
from l4cli.loading.llm import LLM

MAGISTRAL = (GOLDEN / "families/mistral_v13_tekken.jinja").read_text("utf-8")
TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}


def model(
    tags: Tags, answer: Callable[[str], str], *, is_control: bool, is_begun: bool = False
) -> LLM:
    """Its template cuts nothing, knows the tags, and may begin the thought."""
    tokens = {"<|u|>": 257, "<|a|>": 258, "<|end|>": EOG}
    if is_control:
        tokens |= {tags.begin: 260, tags.end: 261}
    template = (
        f"{{# {tags.begin} {tags.end} #}}"
        "{% for m in messages %}{{ '<|u|>' if m.role == 'user' else '<|a|>' }}"
        "{{ m.content }}<|end|>"
        "{% endfor %}{% if tools %}{{ tools[0].function.name }}{% endif %}"
        "{% if add_generation_prompt %}<|a|>" + (tags.begin if is_begun else "") + "{% endif %}"
    )
    return tagged_llm(Tokens(tokens, ends=[]), template, answer)


def answered(llm: LLM, **row: Any) -> dict[str, Any]:
    rows = read_rows([json.dumps(row).encode()])
    ((_, output),) = run_rows(llm, rows, BatchOptions(), BatchStats())
    return output


@pytest.mark.parametrize("tags", FAMILIES, ids=str)
@pytest.mark.parametrize("is_control", [False, True], ids=["text", "control"])
@pytest.mark.parametrize("is_begun", [False, True], ids=["may", "must"])
def test_rows_have_thought_and_answer_apart(tags: Tags, is_control: bool, is_begun: bool) -> None:
    begin = "" if is_begun else tags.begin
    said = f"{begin}\nhm\n{tags.end}\n\nOk"
    llm = model(tags, lambda _prompt: said, is_control=is_control, is_begun=is_begun)
    row = answered(llm, prompt="Hi")
    if tags == THINK and not is_begun:  # the text shows it
        assert row["text"] == "<think>\nhm\n</think>\n\nOk"
    else:
        assert (row["text"], row["reasoning_content"]) == ("Ok", "hm")
    called = f'{begin}hm{tags.end}<tool_call>{{"name": "now", "arguments": {{}}}}</tool_call>'
    llm = model(tags, lambda _prompt: called, is_control=is_control, is_begun=is_begun)
    row = answered(llm, prompt="Hi", tools=[TOOL])
    assert row["tool_calls"][0]["function"]["name"] == "now"
    assert is_begun is False or (row["text"], row["reasoning_content"]) == ("", "hm")


@pytest.mark.parametrize("tags", FAMILIES[1:], ids=str)
@pytest.mark.parametrize("is_begun", [False, True], ids=["may", "must"])
def test_a_thought_that_is_cut_off_is_no_answer(tags: Tags, is_begun: bool) -> None:
    said = ("" if is_begun else tags.begin) + "hm hm hm"
    llm = model(tags, lambda _prompt: said, is_control=True, is_begun=is_begun)
    row = answered(llm, prompt="Hi", max_tokens=4)
    assert row["finish_reason"] == "length"
    assert (row["text"], row["reasoning_content"].strip()) == ("", "hm h" if is_begun else "hm")


def test_raw_prompts_think_nothing() -> None:
    llm = model(THINK, lambda _prompt: "hm</think>Ok", is_control=False, is_begun=True)
    rows = read_rows([b'{"prompt": "Hi"}'])
    ((_, row),) = run_rows(llm, rows, BatchOptions(raw=True), BatchStats())
    assert row["text"] == "hm</think>Ok"


def test_a_chat_with_magistral_shows_thoughts_and_cuts_them_from_later_prompts() -> None:
    prompts: list[str] = []
    names = ("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[THINK]", "[/THINK]")
    tokens = Tokens({name: 260 + n for n, name in enumerate(names)} | {"</s>": EOG}, ends=[])

    def answer(prompt: str) -> str:
        prompts.append(prompt)
        return f"[THINK]hm[/THINK]Answer {len(prompts)}."

    chat = Chat(tagged_llm(tokens, MAGISTRAL, answer))
    chat.session.ask("One?")
    assert chat.views[-1].text == "<think>hm</think>Answer 1."
    chat.session.ask("Two?")
    after = prompts[-1].partition("[/SYSTEM_PROMPT]")[2]
    assert after == "[INST]One?[/INST]Answer 1.</s>[INST]Two?[/INST]"


@pytest.fixture(scope="module")
def magistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("magistral") / "m.gguf"
    control = ["</s>", "[THINK]", "[/THINK]", "[INST]", "[/INST]"]
    return write_vocabulary(path, "tekken", control=control, eos="</s>", template=MAGISTRAL)


def test_a_real_vocabulary_shows_thoughts_and_binds_what_follows(magistral: Path) -> None:
    vocabulary = LlamaModel(magistral, vocab_only=True)
    begin, end = (vocabulary.special_tokens[tag] for tag in ("[THINK]", "[/THINK]"))
    assert vocabulary.piece(begin) + vocabulary.piece(end) == b"<think></think>"
    constraint = replace(Constraint("regex", "ok"), thinking="may", tags=("[THINK]", "[/THINK]"))
    for ids, is_good in (
        ([begin, *vocabulary.tokenize("hm"), end, *vocabulary.tokenize("ok")], True),
        (vocabulary.tokenize("ok"), True),
        ([begin, *vocabulary.tokenize("ok")], False),
        ([begin, end, *vocabulary.tokenize("no")], False),
    ):
        matcher = vocabulary.matcher(constraint)
        assert (all(map(matcher.consume, ids)) and matcher.ends) == is_good
    vocabulary.close()
