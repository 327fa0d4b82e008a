"""Answers in channels, as gpt-oss gives them, in `run`, in a chat and under constraints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chat_support import Chat
from harmony import CALL, FINAL, OSLO, TAGS, TEMPLATE, THOUGHT, decode, encode, harmony_llm
from hypothesis import given, settings
from hypothesis import strategies as st
from vocabularies import write_vocabulary

from l4cli.batch.rows import read_rows
from l4cli.batch.runner import BatchOptions, run_rows
from l4cli.batch.stats import BatchStats
from l4cli.chat.tools.rounds import ToolRounds
from l4cli.chat.tools.toolbox import Toolbox
from l4cli.engine.channels import ChannelReader, Channels, Said
from l4cli.engine.llamacpp import LlamaModel
from l4cli.engine.types import Constraint
from l4cli.loading.llm import LLM
from l4cli.prompt import PromptEncoder

CHANNELS = Channels.of(TAGS)
assert CHANNELS
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
HEAD = '<tool_call>\n{"name": "get_weather", "arguments": '


def piece(token: int) -> bytes:
    return bytes([token]) if token < 256 else b""


def read(
    answer: str, prompt: str = "<|start|>assistant", *, whole: bool = True
) -> tuple[str, Said]:
    reader = ChannelReader(CHANNELS, piece, encode(prompt))
    said = b"".join(map(reader.feed, encode(answer))) + reader.finish(is_whole=whole)
    return said.decode(), reader.said


@pytest.mark.parametrize(
    ("answer", "written", "said"),
    [
        (f"{THOUGHT}{FINAL}Hi!", "<think>\nHm.\n</think>\n\nHi!", Said("Hi!", "Hm.")),
        (f"{FINAL}Hi!", "Hi!", Said("Hi!")),
        (
            f"{THOUGHT}{CALL}{OSLO}",
            f"<think>\nHm.\n</think>\n\n{HEAD}{OSLO}}}\n</tool_call>",
            Said("", "Hm.", (("get_weather", OSLO),)),
        ),
        (  # the recipient may stand in the role
            f" to=functions.get_weather<|channel|>commentary json<|message|>{OSLO}<|call|>",
            f"{HEAD}{OSLO}}}\n</tool_call>",
            Said("", "", (("get_weather", OSLO),)),
        ),
        (
            f"<|channel|>commentary<|message|>I look.<|end|><|start|>assistant{CALL}{OSLO}",
            f"I look.\n\n{HEAD}{OSLO}}}\n</tool_call>",
            Said("I look.", "", (("get_weather", OSLO),)),
        ),
        (f"{THOUGHT * 2}{FINAL}x", "<think>\nHm.\n</think>\n\n" * 2 + "x", Said("x", "Hm.\n\nHm.")),
        ("No channel at all.", "No channel at all.", Said("No channel at all.")),
        (f"{FINAL}One.<|end|>Two.", "One.\n\nTwo.", Said("One.\n\nTwo.")),
        ("", "", Said()),
    ],
)
def test_channels_are_written_as_other_families_write(
    answer: str, written: str, said: Said
) -> None:
    assert read(answer) == (written, said)


def test_an_answer_goes_on_where_its_prompt_ends() -> None:
    whole = f"{THOUGHT}{FINAL}Hello."
    for at in range(len(encode(whole)) + 1):
        begun, rest = decode(encode(whole)[:at]), decode(encode(whole)[at:])
        first, _ = read(begun, whole=False)
        after, _ = read(rest, f"<|start|>user<|message|>x<|end|><|start|>assistant{begun}")
        if begun.endswith("<|message|>") or "<|message|>" not in begun.rpartition("assistant")[2]:
            continue  # cut in a header, where a chat never goes on
        assert first + after == "<think>\nHm.\n</think>\n\nHello.", begun


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*TAGS, "assistant", "analysis", "final", " to=f", "{}", "é"])))
def test_nothing_said_is_lost_whatever_the_tags(parts: list[str]) -> None:
    """Every text within a message is in the answer, and none is there twice."""
    written, said = read("".join(parts))
    for text in (said.text, said.reasoning, *(arguments for _, arguments in said.calls)):
        assert all(part in written for part in text.split("\n\n"))


def run(answer: str, **fields: Any) -> dict[str, Any]:
    row = {"messages": [{"role": "user", "content": "Weather?"}], "max_tokens": 500, **fields}
    rows = read_rows([json.dumps(row).encode()])
    ((_, output),) = run_rows(harmony_llm(answer), rows, BatchOptions(), BatchStats())
    return output


def test_a_row_has_text_reasoning_and_calls_apart() -> None:
    plain = run(f"{THOUGHT}{FINAL}It rains.")
    assert plain["message"] == {
        "role": "assistant",
        "content": "It rains.",
        "reasoning_content": "Hm.",
    }
    called = run(f"{THOUGHT}{CALL}{OSLO}<|call|>", tools=[TOOL])["message"]
    assert (called["content"], called["reasoning_content"]) == ("", "Hm.")
    assert called["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": OSLO}


def test_a_final_text_that_quotes_a_call_is_no_call() -> None:
    quoted = f"{HEAD}{OSLO}}}\n</tool_call>"
    assert run(f"{FINAL}{quoted}", tools=[TOOL])["message"] == {
        "role": "assistant",
        "content": quoted,
    }


def test_a_call_that_is_damaged_or_of_no_tool_stays_text() -> None:
    for bad, tools in (('{"city": ', [TOOL]), (OSLO, None)):
        message = run(f"{CALL}{bad}<|call|>", tools=tools)["message"]
        assert "tool_calls" not in message
        assert message["content"].startswith(f"{HEAD}{bad}")


def test_a_stop_string_ends_the_final_text() -> None:
    row = run(f"{THOUGHT}{FINAL}One. Two.", stop=["Two"])
    assert row["message"]["content"] == "One. "
    assert row["finish_reason"] == "stop"


def test_what_was_thought_before_the_limit_is_kept() -> None:
    row = run(f"{THOUGHT}{FINAL}Hi!", max_tokens=12)
    assert row["finish_reason"] == "length"
    assert row["message"] == {"role": "assistant", "content": "", "reasoning_content": "Hm"}


def test_a_raw_row_is_an_ordinary_text() -> None:
    rows = read_rows([b'{"prompt": "Once"}'])
    options = BatchOptions(raw=True)
    ((_, row),) = run_rows(harmony_llm("upon a time"), rows, options, BatchStats())
    assert row["text"] == "upon a time"


def test_the_api_gives_the_parts() -> None:
    done = harmony_llm(f"{THOUGHT}{FINAL}Hi!").generate("Hello", max_tokens=100)
    assert (done.text, done.reasoning) == ("Hi!", "Hm.")


def test_a_chat_shows_the_thought_and_leaves_it_out_of_the_next_prompt() -> None:
    prompts: list[str] = []

    def answer(prompt: str) -> str:
        prompts.append(prompt)
        return f"{THOUGHT}{FINAL}Answer {len(prompts)}."

    chat = Chat(harmony_llm(answer))
    chat.session.ask("One?")
    assert chat.views[-1].text == "<think>\nHm.\n</think>\n\nAnswer 1."
    chat.session.ask("Two?")
    assert prompts[1].endswith(
        "<|start|>user<|message|>One?<|end|>"
        f"<|start|>assistant{FINAL}Answer 1.<|end|>"
        "<|start|>user<|message|>Two?<|end|><|start|>assistant"
    )


def test_a_chat_goes_on_within_a_thought_and_after_an_edit() -> None:
    prompts: list[str] = []
    whole = f"{THOUGHT}{FINAL}Done."

    def answer(prompt: str) -> str:
        prompts.append(prompt)
        begun = prompt.rpartition("One?<|end|><|start|>assistant")[2]
        return whole.removeprefix(begun)

    chat = Chat(harmony_llm(answer))
    chat.session.sampling["max_tokens"] = 11  # up to "H"
    chat.session.ask("One?")
    assert chat.session.conversation.messages[-1].content == "<think>\nH"
    chat.session.sampling["max_tokens"] = 500
    chat.session.go_on()
    assert chat.session.conversation.messages[-1].content == "<think>\nHm.\n</think>\n\nDone."
    chat.session.edit(chat.session.tree.head, "<think>\nHm.\n</think>\n\nDo")
    chat.session.go_on()
    assert prompts[-1].endswith(f"{THOUGHT}{FINAL}Do")
    assert chat.session.conversation.messages[-1].content == "<think>\nHm.\n</think>\n\nDone."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaModel]:
    """A vocabulary of bytes with harmony's control tokens."""
    path = tmp_path_factory.mktemp("harmony") / "harmony.gguf"
    write_vocabulary(path, "gpt-4o", control=list(TAGS), eos="<|return|>", template=TEMPLATE)
    model = LlamaModel(path, vocab_only=True)
    yield model
    model.close()


def accepts(model: LlamaModel, constraint: Constraint, text: str) -> bool:
    matcher = model.matcher(constraint)
    followed = all(map(matcher.consume, model.tokenize(text, special=True)))
    return followed and (matcher.ends or matcher.consume(min(model.eog_tokens)))


def test_a_constraint_binds_the_final_channel(model: LlamaModel) -> None:
    llm = LLM("harmony", model, harmony_llm("").engine.backend)
    schema = '{"properties": {"a": {"type": "integer"}}, "required": ["a"]}'
    for constraint, good, bad in (
        (Constraint("json_schema", schema), '{"a": 1}', '{"a": "x"}'),
        (Constraint("json_object"), "{}", "[]"),
        (Constraint("regex", "[0-9]+"), "12", "a"),
        (Constraint("grammar", 'root ::= "yes" | "no"'), "yes", "maybe"),
    ):
        bound = llm.request("?", constraint=constraint).params.constraint
        assert bound
        assert accepts(model, bound, f"{THOUGHT}{FINAL}{good}")
        assert accepts(model, bound, f"{FINAL}{good}")
        assert not accepts(model, bound, f"{THOUGHT}{FINAL}{bad}")
        assert not accepts(model, bound, good)
        assert llm.request("?", raw=True, constraint=constraint).params.constraint == constraint


def test_a_required_call_goes_to_its_channel(model: LlamaModel) -> None:
    encoder = PromptEncoder(model)
    constraint = encoder.must_call([TOOL], ["get_weather"])
    constraint = replace(constraint, thinking=encoder.thinking)
    assert accepts(model, constraint, f"{THOUGHT}{CALL}{OSLO}")
    assert accepts(model, constraint, f"{CALL}{OSLO}")
    assert not accepts(model, constraint, f"{FINAL}Hi!")
    assert not accepts(model, constraint, f"{CALL}{{}}")
    assert not accepts(model, constraint, f"{THOUGHT}{THOUGHT}{FINAL}Hi!")


def test_the_vocabulary_ends_answers_as_the_format_says(model: LlamaModel) -> None:
    ends = {text for text, id_ in model.special_tokens.items() if id_ in model.eog_tokens}
    assert ends == {"<|return|>", "<|call|>"}


def test_a_chat_calls_tools_through_channels(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(
        'def get_weather(city: str) -> str:\n    """Tell."""\n    return f"rain in {city}"\n'
    )
    prompts: list[str] = []

    def answer(prompt: str) -> str:
        prompts.append(prompt)
        if prompt.endswith(">Weather?<|end|><|start|>assistant"):
            return f"{THOUGHT}{CALL}{OSLO}"
        return f"{THOUGHT}{FINAL}It rains."

    notes: list[str] = []
    with Toolbox(tmp_path / "tools.py") as toolbox:
        rounds = ToolRounds(toolbox, None, notes.append)
        chat = Chat(harmony_llm(answer), rounds=rounds)
        chat.session.ask("Weather?")
    assert "rain in Oslo" in "".join(notes)
    assert chat.views[-1].text.endswith("It rains.")
    assert "<|start|>assistant to=functions.get_weather<|channel|>commentary json" in prompts[1]
    assert "rain in Oslo" in prompts[1]
