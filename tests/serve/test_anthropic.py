"""/v1/messages through Anthropic's own client, over the demo model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Literal

import anthropic
import httpx
import pytest
from pydantic import BaseModel

from l4cli.loading.llm import LLM

QUESTION = [{"role": "user", "content": "What is GGUF?"}]
# The client's newest versions have no arguments for sampling; older ones send the same field.
GREEDY = {"temperature": 0}
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
OSLO = [{"role": "user", "content": "What is the weather in Oslo?"}]


@pytest.fixture
def client(url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def ask(client: anthropic.Anthropic, **body: Any) -> Any:
    body = {"messages": QUESTION, "max_tokens": 40, "extra_body": GREEDY, **body}
    return client.messages.create(model="demo", **body)


def test_an_answer_is_that_of_the_python_api(client: anthropic.Anthropic, demo: LLM) -> None:
    answer = ask(client)
    (block,) = answer.content
    assert block.text.startswith("GGUF is ")
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    usage = answer.usage
    prompt = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens
    assert prompt == len(demo.encoder.chat(QUESTION))
    assert usage.output_tokens > 5
    assert usage.output_tokens_details.thinking_tokens == 0


def test_a_stream_adds_up_to_the_whole_answer(client: anthropic.Anthropic) -> None:
    whole = ask(client)
    events = list(ask(client, stream=True))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert len(kinds) > 10
    start, end = events[0].message.usage, events[-2].usage
    assert start.input_tokens + start.cache_read_input_tokens > 5
    assert start.cache_read_input_tokens == end.cache_read_input_tokens
    assert end.output_tokens == whole.usage.output_tokens
    with client.messages.stream(
        model="demo",
        messages=QUESTION,  # type: ignore[arg-type]
        max_tokens=40,
        extra_body=GREEDY,
    ) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text
    assert [block.type for block in final.content] == ["text"]
    assert (final.stop_reason, final.role) == (whole.stop_reason, "assistant")


def test_a_stream_has_pings_as_anthropic_sends_them(url: str) -> None:
    body = {"model": "demo", "messages": QUESTION, "max_tokens": 2, "stream": True}
    text = httpx.post(f"{url}/v1/messages", json=body).text
    assert 'event: ping\ndata: {"type":"ping"}\n\n' in text
    for event in text.strip().split("\n\n"):
        name, data = event.split("\n")
        assert name.startswith("event: ")
        assert f'"type":"{name[7:]}"' in data


def test_many_at_once_with_the_asynchronous_client(url: str, client: anthropic.Anthropic) -> None:
    expected = ask(client, max_tokens=16).content

    async def ask_all() -> list[Any]:
        async with anthropic.AsyncAnthropic(base_url=url, auth_token="none") as one:
            return await asyncio.gather(
                *(
                    one.messages.create(
                        model="demo",
                        messages=QUESTION,  # type: ignore[arg-type]
                        max_tokens=16,
                        extra_body=GREEDY,
                    )
                    for _ in range(12)
                )
            )

    assert [answer.content for answer in asyncio.run(ask_all())] == [expected] * 12


def test_a_prompt_asked_again_is_read_from_the_cache(client: anthropic.Anthropic) -> None:
    system = [
        {"type": "text", "text": "Answer briefly. " * 20, "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "Be kind."},
    ]
    first, second = (ask(client, system=system, max_tokens=1) for _ in range(2))
    assert first.usage.input_tokens > 20
    assert second.usage.cache_read_input_tokens > 20
    totals = {one.usage.input_tokens + one.usage.cache_read_input_tokens for one in (first, second)}
    assert len(totals) == 1


def test_a_tools_loop(client: anthropic.Anthropic) -> None:
    answer = ask(client, messages=OSLO, tools=[WEATHER], tool_choice={"type": "any"})
    (call,) = answer.content
    assert answer.stop_reason == "tool_use"
    assert (call.type, call.name, list(call.input)) == ("tool_use", "get_weather", ["city"])
    assert call.id.startswith("toolu_")
    asked = [
        *OSLO,
        {"role": "assistant", "content": answer.content},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": call.id, "content": "Rain, 7 degrees."}
            ],
        },
    ]
    after = ask(client, messages=asked, tools=[WEATHER])
    assert after.content[0].text


def test_the_clients_own_tool_runner(client: anthropic.Anthropic) -> None:
    asked = []

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather in a city.

        Args:
            city: its name
        """
        asked.append(city)
        return "Rain, 7 degrees."

    runner = client.beta.messages.tool_runner(
        model="demo",
        max_tokens=60,
        extra_body=GREEDY,
        messages=OSLO,  # type: ignore[arg-type]
        tools=[get_weather],
        tool_choice={"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True},
        max_iterations=2,
    )
    messages = list(runner)
    assert len(asked) == 2  # a call in each answer, since the choice requires one
    assert all(message.stop_reason == "tool_use" for message in messages)


def test_a_call_is_streamed_whole(client: anthropic.Anthropic) -> None:
    body: dict[str, Any] = {
        "messages": OSLO,
        "tools": [WEATHER],
        "tool_choice": {"type": "tool", "name": "get_weather"},
    }
    (call,) = ask(client, **body).content
    with client.messages.stream(model="demo", max_tokens=40, extra_body=GREEDY, **body) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    (streamed,) = final.content
    assert "input_json" in kinds
    assert (streamed.name, streamed.input) == (call.name, call.input)  # type: ignore[union-attr]
    assert final.stop_reason == "tool_use"


def test_no_tool_is_called_if_none_may_be(client: anthropic.Anthropic) -> None:
    answer = ask(client, messages=OSLO, tools=[WEATHER], tool_choice={"type": "none"})
    assert [block.type for block in answer.content] == ["text"]


class City(BaseModel):
    size: Literal["small", "large"]


def test_structured_output_is_parsed(client: anthropic.Anthropic) -> None:
    answer = client.messages.parse(
        model="demo",
        messages=[{"role": "user", "content": "Oslo has 700000 inhabitants."}],
        output_format=City,
        max_tokens=100,
        extra_body=GREEDY,
    )
    assert isinstance(answer.parsed_output, City)


def test_why_an_answer_ended(client: anthropic.Anthropic) -> None:
    cut = ask(client, max_tokens=3)
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 3)
    stopped = ask(client, stop_sequences=["nowhere", "format", "file"])
    assert stopped.stop_reason == "stop_sequence"
    assert stopped.stop_sequence in ("format", "file")
    assert stopped.stop_sequence not in stopped.content[0].text
    (delta,) = [
        event
        for event in ask(client, stop_sequences=["format", "file"], stream=True)
        if event.type == "message_delta"
    ]
    assert delta.delta.stop_sequence == stopped.stop_sequence


def test_a_begun_answer_is_continued(client: anthropic.Anthropic) -> None:
    whole = ask(client).content[0].text
    begun = [*QUESTION, {"role": "assistant", "content": whole[:20]}]
    rest = ask(client, messages=begun)
    assert rest.content[0].text
    assert not rest.content[0].text.startswith("GGUF is")


def test_more_than_the_context_has_room_for(client: anthropic.Anthropic, demo: LLM) -> None:
    answer = ask(client, max_tokens=8000)
    assert answer.stop_reason == "end_turn"
    long = [{"role": "user", "content": "word " * 200_000}]
    for stream in (False, True):
        with pytest.raises(anthropic.BadRequestError, match=r"the prompt has [\d,]+ tokens"):
            ask(client, messages=long, stream=stream)


def test_tokens_are_counted(client: anthropic.Anthropic, demo: LLM) -> None:
    count = client.messages.count_tokens
    plain = count(model="demo", messages=QUESTION)  # type: ignore[arg-type]
    assert plain.input_tokens == len(demo.encoder.chat(QUESTION))
    system = count(model="demo", messages=QUESTION, system="Be kind.")  # type: ignore[arg-type]
    tools = count(model="demo", messages=QUESTION, tools=[WEATHER])  # type: ignore[arg-type,list-item]
    assert plain.input_tokens < system.input_tokens < tools.input_tokens
    long = [{"role": "user", "content": "word " * 50_000}]
    assert count(model="demo", messages=long).input_tokens > 50_000  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"temprature": 1}, "did you mean temperature"),
        ({"temperature": "hot"}, "temperature must be a number, not a string"),
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
        ({"messages": []}, "messages is empty"),
        ({"messages": "hello"}, "messages must be a list of objects"),
        ({"messages": [{"role": "bob", "content": "x"}]}, "messages[0].role must be user"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content must be a string"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            "messages[0].content[0] is an image",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]},
            "messages[0].content[0] is a document",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x"}]}
                ]
            },
            "messages[0].content[0].tool_use_id is of no tool_use before it: 'x'",
        ),
        (
            {
                "messages": [
                    *OSLO,
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "id": "x", "name": "f", "input": {}}],
                    },
                ]
            },
            "its tool_result is missing",
        ),
        ({"system": [{"type": "image"}]}, "system[0] is an image"),
        ({"stop_sequences": "x"}, "stop_sequences must be a list of strings"),
        ({"tools": [{"name": "", "input_schema": {}}]}, "tools[0].name is empty"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema must be an object"),
        ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, "needs Anthropic's servers"),
        ({"tool_choice": {"type": "any"}}, "there are no tools"),
        ({"tool_choice": {"type": "maybe"}}, "tool_choice must be"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "f"}},
            "tool_choice names 'f'",
        ),
        ({"thinking": {"type": "enabled", "budget_tokens": 10}}, "does not think before"),
        ({"thinking": {"type": []}}, "thinking must be"),
        ({"mcp_servers": [{"url": "x"}]}, "mcp_servers is not supported"),
        ({"output_config": {"format": {"type": "xml"}}}, "must have the type json_schema"),
        ({"context_management": {"edits": [{"type": "clear_tool_uses"}]}}, "nothing is cut"),
        ({"stream": "yes"}, "stream must be true or false"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_field_is_named(url: str, body: dict[str, Any], message: str) -> None:
    body = {"messages": QUESTION, "max_tokens": 5, **body}
    reply = httpx.post(f"{url}/v1/messages", json=body)
    assert reply.status_code == 400, reply.text
    answer = reply.json()
    assert answer["type"] == "error"
    assert answer["error"]["type"] == "invalid_request_error"
    assert message in answer["error"]["message"]


def test_fields_that_change_no_answer_are_taken(client: anthropic.Anthropic) -> None:
    answer = ask(
        client,
        metadata={"user_id": "me"},
        service_tier="auto",
        cache_control={"type": "ephemeral"},
        thinking={"type": "disabled"},
        extra_headers={"anthropic-beta": "interleaved-thinking-2025-05-14"},
        extra_body={
            **GREEDY,
            "top_k": 5,
            "context_management": {"edits": [{"type": "c", "keep": "all"}]},
        },
    )
    assert answer.content == ask(client).content


def test_an_unknown_model_is_404_with_the_names(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="'claude' is not served here; served: demo"):
        client.messages.create(model="claude", messages=QUESTION, max_tokens=1)  # type: ignore[arg-type]


def test_models_are_listed(client: anthropic.Anthropic, demo: LLM) -> None:
    (model,) = client.models.list()
    assert (model.id, model.type, model.display_name) == ("demo:Q8_0", "model", "demo:Q8_0")
    assert model.max_input_tokens == demo.engine.backend.n_ctx_seq
    assert model.created_at.year >= 2024
    assert client.models.retrieve("demo") == model
