"""POST /v1/completions, whole and streamed: prompts are continued as they stand."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from l4cli.engine.types import Completion
from l4cli.openai import answers, bodies
from l4cli.serve.asking import InFlight
from l4cli.serve.errors import ApiError, as_openai
from l4cli.serve.generation import Call, Delta, call_for
from l4cli.serve.handling import Api, generate, whole
from l4cli.serve.served import Served
from l4cli.serve.streams import EventStream, JsonResponse, event

_DONE = b"data: [DONE]\n\n"


async def completions(request: Request) -> Response:
    """Continue one or several prompts."""
    api = Api.of(request)
    given = await api.json_body(request)
    served = api.models.of(given)
    body = api.checked(lambda: bodies.read("completions", given, lenient=api.lenient))
    served.asking.check_queue(body.n * len(body.prompts))
    make = partial(call_for, served.llm, body, served.default_max_tokens)
    call = await served.asking.encode(make)
    if body.stream:
        in_flight = await served.asking.ask(call.requests)
        events = _events(served, call, in_flight, includes_usage=body.includes_usage)
        return EventStream(events, in_flight.close)
    ended = await whole(request, served, call)
    choices = [answers.text_choice(one.choice, one.completion, one.said.text) for one in ended]
    usage = _usage([one.completion for one in ended], body.n)
    return JsonResponse({**_head(served, call), "choices": choices, "usage": usage})


async def _events(
    served: Served, call: Call, in_flight: InFlight, *, includes_usage: bool
) -> AsyncGenerator[bytes, None]:
    head = _head(served, call)
    done: list[Completion] = []
    try:
        async with aclosing(generate(served, call, in_flight)) as generated:
            async for one in generated:
                if isinstance(one, Delta):
                    logprobs = answers.legacy_logprobs(one.logprobs) if one.logprobs else None
                    choice = _choice(one.choice, one.text, logprobs, None)
                else:
                    done.append(one.completion)
                    choice = _choice(one.choice, "", None, one.completion.finish_reason)
                yield event({**head, "choices": [choice]})
        if includes_usage:
            num_choices = len(call.requests) // call.num_prompts
            yield event({**head, "choices": [], "usage": _usage(done, num_choices)})
        yield _DONE
    except ApiError as error:
        yield event(as_openai(error))


def _choice(index: int, text: str, logprobs: Any, reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}


def _usage(done: Sequence[Completion], num_choices: int) -> dict[str, Any]:
    """Return the usage of all prompts; each counts once, whatever the number of its choices."""
    total = answers.usage(done)
    prompts = sum(one.num_prompt_tokens for one in done) // num_choices
    total["prompt_tokens"] = prompts
    total["total_tokens"] = prompts + total["completion_tokens"]
    return total


def _head(served: Served, call: Call) -> dict[str, Any]:
    return {
        "id": f"cmpl-{call.id}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": served.name,
        "system_fingerprint": f"fp_{served.llm.fingerprint[:16]}",
    }
