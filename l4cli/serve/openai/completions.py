"""POST /v1/completions, whole and streamed: prompts are continued as they stand."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from l4cli.engine.types import Completion
from l4cli.openai import answers, bodies
from l4cli.openai.bodies import Body
from l4cli.serve.asking import InFlight
from l4cli.serve.errors import ApiError, as_openai
from l4cli.serve.generation import Call, Delta
from l4cli.serve.handling import Api, encoded, generate, whole
from l4cli.serve.openai.chunks import DONE, Chunks, head
from l4cli.serve.openai.echoing import Echo, echoes, without_answer
from l4cli.serve.served import Served
from l4cli.serve.streams import EventStream, JsonResponse, event, unless_gone

_KIND = ("cmpl", "text_completion")


async def completions(request: Request) -> Response:
    """Continue one or several prompts."""
    api = Api.of(request)
    given = await api.json_body(request)
    served = api.models.of(given)
    body = bodies.read("completions", given, lenient=api.lenient)
    served.asking.check_queue(body.n * len(body.prompts))
    call = await encoded(api, served, body)
    echoed = await _echoes(request, served, body, call)
    if body.stream:
        in_flight = await served.asking.ask(call.requests, streams=True)
        events = _events(served, call, body, in_flight, echoed)
        return EventStream(events, in_flight.close)
    done = [one.completion for one in await whole(request, served, call)]
    if body.is_empty:
        done = [without_answer(one) for one in done]
    choices = [answers.text_choice(index, one, one.text) for index, one in enumerate(done)]
    for choice, echo, one in zip(choices, echoed, done, strict=False):
        choice["text"] = echo.before(one.text)
        choice["logprobs"] = echo.logprobs(one.logprobs)
    usage = _usage(done, body.n)
    return JsonResponse({**head(served, call, *_KIND), "choices": choices, "usage": usage})


async def _echoes(request: Request, served: Served, body: Body, call: Call) -> list[Echo]:
    """Return the prompts that the answers begin with; none unless the body asks for them."""
    if not body.echo:
        return []
    return await unless_gone(request, echoes(served, body, call.requests))


async def _events(
    served: Served, call: Call, body: Body, in_flight: InFlight, echoed: Sequence[Echo]
) -> AsyncGenerator[bytes, None]:
    chunks = Chunks(head(served, call, *_KIND), includes_usage=body.includes_usage)
    done: list[Completion] = []
    for index, echo in enumerate(echoed):
        yield chunks.choice(_choice(index, echo.text, echo.logprobs([]), None))
    try:
        async with aclosing(generate(served, call, in_flight)) as generated:
            async for one in generated:
                if isinstance(one, Delta):
                    if body.is_empty:
                        continue
                    logprobs = answers.legacy_logprobs(one.logprobs) if one.logprobs else None
                    choice = _choice(one.choice, one.text, logprobs, None)
                else:
                    completion = one.completion
                    done.append(without_answer(completion) if body.is_empty else completion)
                    choice = _choice(one.choice, "", None, one.completion.finish_reason)
                yield chunks.choice(choice)
        if body.includes_usage:
            yield chunks.usage(_usage(done, body.n))
        yield DONE
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
