"""/v1/responses through OpenAI's own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import httpx
import openai
import pytest
from conftest import GOLDEN
from fakes import EOG
from harmony import CALL, OSLO, THOUGHT, harmony_llm
from pydantic import BaseModel
from served import served
from tagged import Tags, tagged_llm

from l4cli.loading.llm import LLM
from l4cli.serve.responses.store import Kept, ResponseStore

QUESTION = "What is GGUF?"
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
CHATML = Tags({"<|im_start|>": 258, "<|im_end|>": EOG}, ends=[])
QWEN = (GOLDEN / "families/qwen3.jinja").read_text("utf-8")


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, **body: Any) -> Any:
    body = {"input": QUESTION, "temperature": 0, "max_output_tokens": 40, **body}
    return client.responses.create(model="demo", **body)


@contextmanager
def client_of(llm: LLM, **options: Any) -> Iterator[openai.OpenAI]:
    with (
        served(llm, **options) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


class Model:
    """A model without weights that answers as told, and remembers its prompts."""

    def __init__(self, answer: str = "Fine.") -> None:
        self.answer, self.prompts = answer, list[str]()
        self.llm = tagged_llm(CHATML, QWEN, self._said)

    def _said(self, prompt: str) -> str:
        self.prompts.append(prompt)
        return self.answer


def test_an_answer_is_that_of_the_python_api(client: openai.OpenAI, demo: LLM) -> None:
    answer = ask(client, instructions="Be brief.", metadata={"a": "b"})
    assert answer.output_text.startswith("GGUF is ")
    assert (answer.status, answer.incomplete_details, answer.error) == ("completed", None, None)
    (message,) = answer.output
    assert (message.type, message.role, message.status) == ("message", "assistant", "completed")
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": QUESTION},
    ]
    usage = answer.usage
    assert usage.input_tokens == len(demo.encoder.chat(messages))
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert usage.input_tokens_details.cached_tokens >= 0
    assert usage.output_tokens_details.reasoning_tokens == 0
    assert (answer.temperature, answer.metadata) == (0, {"a": "b"})
    assert answer.instructions == "Be brief."


def test_a_stream_tells_of_each_step_in_order(client: openai.OpenAI) -> None:
    whole = ask(client)
    events = list(ask(client, stream=True))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type.endswith("text.delta"))
    assert text == whole.output_text == events[-1].response.output_text == events[-4].text
    assert events[-2].item == events[-1].response.output[0]
    assert (events[0].response.status, events[0].response.output) == ("in_progress", [])
    assert events[-1].response.usage.output_tokens == whole.usage.output_tokens


def test_the_clients_own_stream_helper(client: openai.OpenAI) -> None:
    with client.responses.stream(model="demo", input=QUESTION, temperature=0) as stream:
        snapshots = [event.snapshot for event in stream if event.type.endswith("text.delta")]  # type: ignore[union-attr]
        final = stream.get_final_response()
    assert final.output_text == snapshots[-1]
    assert final.status == "completed"


class City(BaseModel):
    size: Literal["small", "large"]


def test_structured_output_is_parsed(client: openai.OpenAI) -> None:
    done = client.responses.parse(
        model="demo",
        input="Oslo has 700000 inhabitants.",
        text_format=City,
        temperature=0,
        max_output_tokens=100,
    )
    assert isinstance(done.output_parsed, City)
    plain = ask(client, text={"format": {"type": "text"}, "verbosity": "medium"})
    assert plain.output_text.startswith("GGUF is")
    free = ask(client, text={"format": {"type": "json_object"}}, max_output_tokens=100)
    assert free.text.format.type == "json_object"
    if free.status == "completed":
        assert isinstance(json.loads(free.output_text), dict)


@pytest.mark.parametrize("is_stateless", [True, False])
def test_a_tools_loop(client: openai.OpenAI, is_stateless: bool) -> None:
    asked: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]
    options: dict[str, Any] = {"tools": [WEATHER], "store": not is_stateless}
    answer = ask(client, input=asked, tool_choice="required", **options)
    (call,) = answer.output
    assert (call.type, call.name, call.status) == ("function_call", "get_weather", "completed")
    assert list(json.loads(call.arguments)) == ["city"]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Rain."}
    if is_stateless:
        after = ask(client, input=[*asked, *answer.output, result], **options)
    else:
        after = ask(client, input=[result], previous_response_id=answer.id, **options)
        assert after.previous_response_id == answer.id
    assert after.output_text


def test_a_call_is_streamed(client: openai.OpenAI) -> None:
    body: dict[str, Any] = {
        "input": "What is the weather in Oslo?",
        "tools": [WEATHER],
        "tool_choice": {"type": "function", "name": "get_weather"},
        "parallel_tool_calls": False,
    }
    (call,) = ask(client, **body).output
    events = list(ask(client, stream=True, **body))
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert events[2].item.arguments == ""
    assert events[4].arguments == call.arguments
    with client.responses.stream(model="demo", temperature=0, **body) as stream:
        (parsed,) = stream.get_final_response().output
    assert parsed.parsed_arguments == json.loads(call.arguments)  # type: ignore[union-attr]


def test_an_answer_that_was_cut_is_incomplete(client: openai.OpenAI) -> None:
    cut = ask(client, max_output_tokens=3)
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert cut.output[0].status == "incomplete"
    last = list(ask(client, max_output_tokens=3, stream=True))[-1]
    assert (last.type, last.response.status) == ("response.incomplete", "incomplete")
    assert last.response.output_text == cut.output_text


def test_logprobs(client: openai.OpenAI) -> None:
    include = ["message.output_text.logprobs"]
    answer = ask(client, include=include, top_logprobs=2, max_output_tokens=5)
    logprobs = answer.output[0].content[0].logprobs
    assert [len(one.top_logprobs) for one in logprobs] == [2] * 5
    assert "".join(one.token for one in logprobs).strip() == answer.output_text.strip()
    events = list(ask(client, include=include, top_logprobs=2, max_output_tokens=5, stream=True))
    streamed = [one for event in events if event.type.endswith(".delta") for one in event.logprobs]
    assert [one.token for one in streamed] == [one.token for one in logprobs]


def test_a_response_that_is_kept_is_returned_followed_and_forgotten() -> None:
    model = Model()
    with client_of(model.llm) as client:
        first = client.responses.create(model="fake", input="One", instructions="Be kind.")
        second = client.responses.create(
            model="fake", input="Two", previous_response_id=first.id, instructions="Be brief."
        )
        events = list(
            client.responses.create(
                model="fake", input="Three", previous_response_id=second.id, stream=True
            )
        )
        assert client.responses.retrieve(second.id) == second
        assert client.responses.retrieve(events[-1].response.id).output_text == "Fine."  # type: ignore[union-attr]
        client.responses.delete(second.id)
        for id in (second.id, "resp_none"):
            with pytest.raises(openai.NotFoundError, match="there is no response"):
                client.responses.retrieve(id)
        with pytest.raises(openai.BadRequestError, match="there is no response") as refused:
            client.responses.create(model="fake", input="x", previous_response_id=second.id)
        assert refused.value.code == "previous_response_not_found"
    turn = "<|im_start|>{}\n{}<|im_end|>\n".format
    said = turn("assistant", "Fine.")
    assert model.prompts[1:] == [
        turn("system", "Be brief.")
        + turn("user", "One")
        + said
        + turn("user", "Two")
        + "<|im_start|>assistant\n",
        turn("user", "One")
        + said
        + turn("user", "Two")
        + said
        + turn("user", "Three")
        + "<|im_start|>assistant\n",
    ]


def test_a_response_is_not_kept_if_the_client_says_so() -> None:
    with client_of(Model().llm) as client:
        gone = client.responses.create(model="fake", input="One", store=False)
        assert gone.store is False  # type: ignore[attr-defined]
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(gone.id)


def test_what_is_kept_has_bounds() -> None:
    store = ResponseStore(most=3, most_bytes=1000)

    def keep(name: str, num_bytes: int) -> None:
        store.keep(Kept({"id": name}, (), num_bytes))

    for number in range(5):
        keep(f"r{number}", 10)
    assert [store.get(f"r{number}") is not None for number in range(5)] == [0, 0, 1, 1, 1]
    keep("big", 985)
    assert [store.get(name) is not None for name in ("r3", "r4", "big")] == [0, 1, 1]
    assert store.remove("big")
    keep("small", 980)
    assert store.get("r4")
    keep("huge", 2000)
    assert store.get("huge") is None
    assert store.get("small")
    assert not store.remove("huge")


def test_thoughts_are_items_and_go_back_to_the_model() -> None:
    model = Model('<think>\nI look.\n</think>\n\n<tool_call>\n{"name": "get_weather", ')
    model.answer += '"arguments": {"city": "Oslo"}}\n</tool_call>'
    with client_of(model.llm) as client:
        asked: list[Any] = [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]
        answer = client.responses.create(model="fake", input=asked, tools=[WEATHER])
        thought, call = answer.output
        assert (thought.type, call.type) == ("reasoning", "function_call")
        assert thought.content[0].text == "I look."  # type: ignore[union-attr]
        assert answer.usage
        assert answer.usage.output_tokens_details.reasoning_tokens > len("I look.")
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "7"}  # type: ignore[union-attr]
        items = [item.model_dump() for item in answer.output]
        client.responses.create(model="fake", input=[*asked, *items, result], tools=[WEATHER])
        client.responses.create(
            model="fake",
            input=[result],  # type: ignore[list-item]
            previous_response_id=answer.id,
            tools=[WEATHER],
        )
        client.responses.create(model="fake", input="Hi", reasoning={"effort": "none"})
    assert "<think>\nI look.\n</think>\n\n<tool_call>" in model.prompts[1]
    assert model.prompts[1] == model.prompts[2]
    assert model.prompts[3].endswith("<think>\n\n</think>\n\n")


def test_thoughts_and_calls_in_channels_are_streamed() -> None:
    with client_of(harmony_llm(THOUGHT + CALL + OSLO + "<|call|>")) as client:
        body: dict[str, Any] = {"model": "fake", "input": "Hi", "tools": [WEATHER]}
        whole = client.responses.create(**body)
        events = list(client.responses.create(**body, stream=True))
    kinds = [event.type for event in events]
    assert kinds.index("response.reasoning_text.delta") < kinds.index(
        "response.function_call_arguments.delta"
    )
    thoughts = [event.delta for event in events if event.type == "response.reasoning_text.delta"]
    assert "".join(thoughts) == whole.output[0].content[0].text == "Hm."
    assert [item.type for item in events[-1].response.output] == ["reasoning", "function_call"]


def test_a_failure_in_the_middle_of_a_stream_is_an_event() -> None:
    model = Model("One, two! Three.")
    model.llm.engine.backend.fail_on = ord("!")  # type: ignore[attr-defined]
    with client_of(model.llm) as client:
        last = list(client.responses.create(model="fake", input="Hi", stream=True))[-1]
        with pytest.raises(openai.InternalServerError, match="failed"):
            client.responses.create(model="fake", input="Hi")
    assert last.type == "response.failed"
    assert last.response.output_text == "One, two!"
    assert last.response.error
    assert "failed" in last.response.error.message


def test_a_prompt_that_does_not_fit_is_refused_with_the_numbers(client: openai.OpenAI) -> None:
    for body in ({"input": "word " * 200_000}, {"max_output_tokens": 1_000_000}):
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError, match=r"prompt.* [\d,]+ tokens.* context"):
                ask(client, stream=stream, **body)


MESSAGE = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"temprature": 1}, "temprature", "did you mean temperature"),
        ({"input": 5}, "input", "input must be a string or a list of items"),
        ({"input": []}, "input", "input is empty"),
        ({"input": [{"role": "bob", "content": "x"}]}, "input[0]", "role must be one of user"),
        ({"input": [{"role": ["user"], "content": "x"}]}, "input[0]", "role must be one of user"),
        ({"input": [MESSAGE, {"type": "item_reference", "id": "x"}]}, "input[1]", "supported:"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0]",
            "is an image: this server reads text only",
        ),
        (
            {"input": [{"type": "function_call_output", "call_id": "x", "output": "y"}]},
            "input[0]",
            "of no function_call before it",
        ),
        (
            {
                "input": [
                    {"type": "function_call", "call_id": "x", "name": "f", "arguments": "{oops"}
                ]
            },
            "input[0]",
            "not JSON",
        ),
        ({"truncation": "auto"}, "truncation", "nothing is ever cut"),
        ({"background": True}, "background", "is not supported"),
        ({"conversation": "conv_1"}, "conversation", "is not supported"),
        ({"prompt": {"id": "x"}}, "prompt", "is not supported"),
        ({"max_output_tokens": 0}, "max_output_tokens", "at least 1"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]", "takes tools of type function"),
        ({"tools": [{"type": "function", "name": ""}]}, "tools[0]", "name is empty"),
        ({"tool_choice": "required"}, "tool_choice", "there are no tools"),
        ({"tool_choice": "maybe"}, "tool_choice", "must be"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "name": "f"}},
            "tool_choice",
            "names 'f'",
        ),
        ({"text": {"format": {"type": "xml"}}}, "text", "response_format must have the type"),
        ({"previous_response_id": 5}, "previous_response_id", "must be a string"),
        ({"reasoning": "much"}, "reasoning", "must be an object"),
        ({"store": "yes"}, "store", "must be true or false"),
        ({"include": "all"}, "include", "must be a list of strings"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_field_is_named(
    url: str, body: dict[str, Any], param: str | None, message: str
) -> None:
    reply = httpx.post(f"{url}/v1/responses", json={"input": "Hi", **body})
    error = reply.json()["error"]
    assert reply.status_code == 400
    assert message in error["message"]
    assert error["param"] == param


def test_only_the_allowed_tools_are_offered() -> None:
    model = Model()
    other = {**WEATHER, "name": "other"}
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"name": "other"}]}
    with client_of(model.llm) as client:
        client.responses.create(
            model="fake",
            input="Hi",
            tools=[WEATHER, other],
            tool_choice=allowed,  # type: ignore[arg-type]
        )
    assert '"other"' in model.prompts[0]
    assert "get_weather" not in model.prompts[0]
