"""POST /v1/chat/completions, whole and streamed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from l4cli.engine.types import Completion
from l4cli.openai import answers, bodies
from l4cli.serve.asking import InFlight
from l4cli.serve.errors import ApiError, as_openai
from l4cli.serve.generation import Call, Delta, Ended
from l4cli.serve.handling import Api, encoded, generate, whole
from l4cli.serve.openai.chunks import DONE, Chunks, head
from l4cli.serve.served import Served
from l4cli.serve.streams import EventStream, JsonResponse, event


async def chat_completions(request: Request) -> Response:
    """Answer a conversation."""
    api = Api.of(request)
    given = await api.json_body(request)
    served = api.models.of(given)
    body = bodies.read("chat", given, lenient=api.lenient)
    served.asking.check_queue(body.n)
    call = await encoded(api, served, body)
    if body.stream:
        in_flight = await served.asking.ask(call.requests, streams=True)
        events = _events(served, call, in_flight, includes_usage=body.includes_usage)
        return EventStream(events, in_flight.close)
    ended = await whole(request, served, call)
    answer = {
        **head(served, call, "chatcmpl", "chat.completion"),
        "choices": [_choice(call, one) for one in ended],
        "usage": answers.usage([one.completion for one in ended]),
    }
    return JsonResponse(answer)


def _choice(call: Call, ended: Ended) -> dict[str, Any]:
    choice = answers.chat_choice(ended.choice, ended.completion, ended.said, _call_id(call, ended))
    if ended.said.reasoning:  # the field has two names in the field: clients look for either
        choice["message"]["reasoning"] = ended.said.reasoning
    return choice


async def _events(
    served: Served, call: Call, in_flight: InFlight, *, includes_usage: bool
) -> AsyncGenerator[bytes, None]:
    beginning = head(served, call, "chatcmpl", "chat.completion.chunk")
    chunks = Chunks(beginning, includes_usage=includes_usage)
    for index in range(len(call.requests)):
        yield chunks.choice(_part(index, {"role": "assistant", "content": ""}))
    completions: list[Completion] = []
    try:
        async with aclosing(generate(served, call, in_flight)) as generated:
            async for one in generated:
                if isinstance(one, Delta):
                    yield chunks.choice(_delta(one))
                    continue
                completions.append(one.completion)
                for choice in _last(call, one):
                    yield chunks.choice(choice)
        if includes_usage:
            yield chunks.usage(answers.usage(completions))
        yield DONE
    except ApiError as error:
        yield event(as_openai(error))


def _delta(one: Delta) -> dict[str, Any]:
    delta: dict[str, Any] = {}
    if one.text:
        delta["content"] = one.text
    if one.reasoning:
        delta |= {"reasoning_content": one.reasoning, "reasoning": one.reasoning}
    logprobs = {"content": answers.token_logprobs(one.logprobs)} if one.logprobs else None
    return _part(one.choice, delta, logprobs)


def _last(call: Call, ended: Ended) -> list[dict[str, Any]]:
    """The chunks that end a choice: the rest of its text, its calls, and why it ended."""
    last = []
    if ended.rest.text or ended.rest.reasoning:
        last.append(_delta(ended.rest))
    reason = ended.completion.finish_reason
    if ended.said.calls:
        calls = answers.tool_calls(ended.said.calls, _call_id(call, ended))
        numbered = [{"index": number, **one} for number, one in enumerate(calls)]
        last.append(_part(ended.choice, {"tool_calls": numbered}))
        return [*last, {**_part(ended.choice, {}), "finish_reason": "tool_calls"}]
    return [*last, {**_part(ended.choice, {}), "finish_reason": reason}]


def _part(index: int, delta: dict[str, Any], logprobs: Any = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}


def _call_id(call: Call, ended: Ended) -> str:
    return f"call_{call.id}_{ended.choice}_"
