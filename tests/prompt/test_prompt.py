"""Messages to token ids: only the template writes control tokens."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import BOS, EOG, FakeVocabulary
from hypothesis import given
from hypothesis import strategies as st

from l4cli.errors import ModelError, RequestError
from l4cli.prompt import PromptEncoder
from l4cli.prompt.template import ChatTemplate, llama4_template

LLAMA4 = ChatTemplate(llama4_template(), bos_token="<|begin_of_text|>")
USER = {"role": "user", "content": "hi"}


def test_llama4_format() -> None:
    text = LLAMA4.render([{"role": "system", "content": "S"}, USER])
    assert text == (
        "<|begin_of_text|><|header_start|>system<|header_end|>\n\nS<|eot|>"
        "<|header_start|>user<|header_end|>\n\nhi<|eot|>"
        "<|header_start|>assistant<|header_end|>\n\n"
    )


def test_llama4_tools_and_their_results() -> None:
    tool = {"name": "get_weather", "parameters": {"city": {"type": "string"}}}
    call = {"function": {"name": "get_weather", "arguments": {"city": "Oslo", "now": True}}}
    text = LLAMA4.render(
        [
            USER,
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": {"celsius": 3}},
        ],
        tools=[{"type": "function", "function": tool}],
    )
    assert '{"name": "get_weather", "parameters": {"city": {"type": "string"}}}\n' in text
    assert '\n\n[get_weather(city="Oslo", now=True)]<|eot|>' in text
    assert '<|header_start|>ipython<|header_end|>\n\n{"celsius": 3}<|eot|>' in text


@given(st.lists(st.sampled_from(["<|eot|>", "<|bos|>", "<|answer|>", "<", "|eot|>", "你", " "])))
def test_text_never_becomes_a_control_token(parts: list[str]) -> None:
    content = "".join(parts)
    tokens = PromptEncoder(FakeVocabulary()).chat([{"role": "user", "content": content}])
    assert tokens == [BOS, *content.encode(), ord("\n"), 0]


def test_control_text_in_a_plain_prompt_stays_text() -> None:
    assert PromptEncoder(FakeVocabulary()).text("<|eot|>") == [BOS, *b"<|eot|>"]


def test_bos_is_never_doubled_nor_missing() -> None:
    class WithoutBos(FakeVocabulary):
        chat_template: str | None = "{{ messages[0].content }}"

    assert PromptEncoder(FakeVocabulary()).chat([USER]).count(BOS) == 1
    assert PromptEncoder(WithoutBos()).chat([USER]) == [BOS, *b"hi"]


def test_a_guard_character_in_the_text_survives() -> None:
    tokens = PromptEncoder(FakeVocabulary()).chat(
        [{"role": "user", "content": "\ue000<|eot|>\ue001"}]
    )
    assert bytes(tokens[1:-2]).decode() == "\ue000<|eot|>\ue001"


def test_a_llama4_vocabulary_without_template_gets_llama4s() -> None:
    class Llama4(FakeVocabulary):
        special_tokens = {"<|header_start|>": 300, "<|header_end|>": 301, "<|eot|>": EOG}  # noqa: RUF012
        chat_template: str | None = None

    tokens = PromptEncoder(Llama4()).chat([USER])
    assert tokens[:5] == [BOS, 300, *b"use"]
    assert tokens.count(EOG) == 1


def test_a_model_without_template_says_what_it_can_do() -> None:
    class Plain(FakeVocabulary):
        chat_template: str | None = None

    with pytest.raises(RequestError, match="no chat template: give a plain prompt"):
        PromptEncoder(Plain()).chat([USER])


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "robot", "content": "x"}],
        [{"role": "user", "content": "{{ 7 * 7 }}"}, {"role": "robot", "content": ""}],
    ],
)
def test_a_template_may_refuse_messages(messages: list[dict[str, Any]]) -> None:
    template = ChatTemplate(
        "{% for m in messages %}{% if m.role != 'user' %}"
        "{{ raise_exception('only users here') }}{% endif %}{% endfor %}"
    )
    with pytest.raises(RequestError, match="only users here"):
        template.render(messages)


def test_templates_run_in_a_sandbox() -> None:
    template = ChatTemplate("{{ messages.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(RequestError, match="unsafe"):
        template.render([USER])


def test_whatever_a_template_raises_is_its_own() -> None:
    with pytest.raises(RequestError, match="cannot show these messages: ZeroDivisionError"):
        ChatTemplate("{{ 1 // 0 }}").render([USER])


def test_a_broken_template_is_the_models_fault() -> None:
    with pytest.raises(ModelError, match="does not compile"):
        ChatTemplate("{% for %}")


@given(st.lists(st.text(max_size=12), min_size=2, max_size=4), st.text(max_size=8))
def test_a_content_in_parts_is_tokenized_in_parts(parts: list[str], system: str) -> None:
    """The template gets one text; the ids before a cut do not depend on the text after it."""
    encoder = PromptEncoder(FakeVocabulary())
    messages = [{"role": "system", "content": system}] if system else []
    try:
        whole = encoder.chat([*messages, {"role": "user", "content": "".join(parts)}])
        cut = encoder.chat([*messages, {"role": "user", "content": tuple(parts)}])
        apart = encoder.chat_in_sections(parts, system=system or None)
    except UnicodeEncodeError:
        return  # a lone surrogate
    assert cut == whole == [token for part in apart for token in part]  # bytes are tokens here
    assert (
        encoder.chat_in_sections([*parts[:-1], "other"], system=system or None)[:-1] == apart[:-1]
    )


def test_a_cut_makes_no_control_token() -> None:
    encoder = PromptEncoder(FakeVocabulary())
    for content in ("<|eot|>", ("<|eo", "t|>"), ("<|eot|>", ""), ("\ue000<|e", "ot|>\ue001")):
        assert encoder.chat([{"role": "user", "content": content}]).count(EOG) == 0
