"""/v1/chat/completions through OpenAI's own client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, Literal

import httpx
import openai
import pytest
from pydantic import BaseModel

from l4cli.loading.llm import LLM

QUESTION = [{"role": "user", "content": "What is GGUF?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def chat(client: openai.OpenAI, **body: Any) -> Any:
    body = {"messages": QUESTION, "temperature": 0, "max_tokens": 40, **body}
    return client.chat.completions.create(model="demo", **body)


def test_an_answer_is_that_of_the_python_api(client: openai.OpenAI, demo: LLM) -> None:
    answer = chat(client)
    assert answer.choices[0].message.content.startswith("GGUF is ")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens == len(demo.encoder.chat(QUESTION))


def test_a_stream_adds_up_to_the_whole_answer(client: openai.OpenAI) -> None:
    whole = chat(client)
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert len(chunks) > 10


def test_many_at_once_answer_as_one_alone(url: str, client: openai.OpenAI) -> None:
    questions = [f"What is {word}?" for word in ("GGUF", "quantization", "a token", "a llama")]

    async def ask_all() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as one:
            return await asyncio.gather(
                *(
                    one.chat.completions.create(
                        model="demo",
                        messages=[{"role": "user", "content": question}],
                        max_tokens=16,
                        temperature=0,
                    )
                    for question in questions * 5
                )
            )

    answers = [one.choices[0].message.content for one in asyncio.run(ask_all())]
    assert len(answers) == 20
    assert answers[:4] == answers[4:8] == answers[16:]


def test_a_tools_loop(client: openai.OpenAI) -> None:
    asked: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]
    answer = chat(client, messages=asked, tools=[WEATHER], tool_choice="required")
    (call,) = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "get_weather"
    assert list(json.loads(call.function.arguments)) == ["city"]
    asked += [
        answer.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "Rain, 7 degrees."},
    ]
    after = chat(client, messages=asked, tools=[WEATHER])
    assert after.choices[0].message.content


def test_a_call_is_streamed_whole(client: openai.OpenAI) -> None:
    asked = [{"role": "user", "content": "What is the weather in Oslo?"}]
    options: dict[str, Any] = {"messages": asked, "tools": [WEATHER], "tool_choice": "required"}
    (call,) = chat(client, **options).choices[0].message.tool_calls
    with client.chat.completions.stream(
        model="demo", temperature=0, max_tokens=40, **options
    ) as stream:
        final = stream.get_final_completion().choices[0]
    (streamed,) = final.message.tool_calls or []
    assert streamed.function.arguments == call.function.arguments
    assert not final.message.content
    assert final.finish_reason == "tool_calls"


class City(BaseModel):
    size: Literal["small", "large"]


def test_structured_output_is_parsed(client: openai.OpenAI) -> None:
    done = client.chat.completions.parse(
        model="demo",
        messages=[{"role": "user", "content": "Oslo has 700000 inhabitants."}],
        response_format=City,
        temperature=0,
        max_tokens=100,
    )
    assert isinstance(done.choices[0].message.parsed, City)


def test_choices_stop_strings_and_logprobs(client: openai.OpenAI) -> None:
    answer = chat(client, n=3, stop=["format"], logprobs=True, top_logprobs=2, max_tokens=20)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    for choice in answer.choices:
        assert "format" not in choice.message.content
        assert len(choice.logprobs.content[0].top_logprobs) == 2


def test_a_prompt_that_does_not_fit_is_refused_with_the_numbers(client: openai.OpenAI) -> None:
    long = [{"role": "user", "content": "word " * 200_000}]
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match=r"the prompt has [\d,]+ tokens"):
            chat(client, messages=long, stream=stream)


def test_without_a_limit_an_answer_may_fill_the_context(url: str, demo: LLM) -> None:
    long = "word " * (demo.engine.backend.n_ctx_seq - 500)
    body = {"messages": [{"role": "user", "content": long}]}
    said = httpx.post(f"{url}/v1/chat/completions/dry-run", json=body).json()
    assert said["max_tokens"] == said["left"] < 500
    assert said["fits"]


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"temprature": 1}, "temprature", "did you mean temperature"),
        ({"temperature": "hot"}, "temperature", "temperature must be a number, not a string"),
        ({"temperature": 1000}, None, "temperature must be between 0 and 100"),
        ({"messages": []}, "messages", "messages is empty"),
        ({"n": 0}, "n", "n must be an integer from 1"),
        ({"tool_choice": "required"}, "tool_choice", "there are no tools"),
        ({"stream": "yes"}, "stream", "stream must be true or false"),
        ({"messages": [{"role": "bob", "content": "x"}]}, None, "has the role 'bob'"),
        ({"logit_bias": {"99999999": 1}}, None, "logit_bias"),
    ],
)
def test_a_wrong_field_is_named(
    url: str, body: dict[str, Any], param: str | None, message: str
) -> None:
    reply = httpx.post(f"{url}/v1/chat/completions", json={"messages": QUESTION, **body})
    error = reply.json()["error"]
    assert reply.status_code == 400
    assert message in error["message"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


def test_an_unknown_model_is_404_with_the_names(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="'gpt-5' is not served here; served: demo:Q8_0"):
        client.chat.completions.create(model="gpt-5", messages=QUESTION)  # type: ignore[arg-type]
    assert [model.id for model in client.models.list()] == ["demo:Q8_0"]
