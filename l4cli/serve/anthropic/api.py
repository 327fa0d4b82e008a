"""POST /v1/messages, whole and streamed, and /v1/messages/count_tokens, as Anthropic has them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from l4cli.openai.wishes import granted_or_near
from l4cli.serve.anthropic.answers import PING, Events, Head, message
from l4cli.serve.anthropic.bodies import Asked, read
from l4cli.serve.asking import InFlight
from l4cli.serve.errors import ApiError, as_anthropic
from l4cli.serve.generation import Call, Delta, call_for
from l4cli.serve.handling import Api, generate, whole
from l4cli.serve.served import Served
from l4cli.serve.streams import EventStream, JsonResponse, event


async def messages(request: Request) -> Response:
    """Answer a conversation."""
    api = Api.of(request)
    given = await api.json_body(request)
    served = api.models.of(given)
    asked = _asked(api, given)
    served.asking.check_queue()
    call = await served.asking.encode(partial(_call, served, asked, lenient=api.lenient))
    head = _head(served, call, asked)
    if asked.body.stream:
        in_flight = await served.asking.ask(call.requests, streams=True)
        return EventStream(
            _events(served, call, head, in_flight), in_flight.close, sign=_encoded(PING)
        )
    (ended,) = await whole(request, served, call)
    return JsonResponse(message(head, ended))


async def count_tokens(request: Request) -> Response:
    """Count the tokens of a conversation's prompt, which need not fit into the context."""
    api = Api.of(request)
    given = await api.json_body(request)
    served = api.models.of(given)
    asked = _asked(api, given)
    call = await served.asking.encode(partial(_call, served, asked, lenient=api.lenient))
    return JsonResponse({"input_tokens": len(call.requests[0].prompt)})


def _asked(api: Api, given: Mapping[str, Any]) -> Asked:
    if given.get("thread") is not None:
        # Anthropic's client understands this code, and sends whole conversations from then on.
        raise ApiError(
            400,
            "thread: this server holds no conversations: send all messages",
            code="thread_unsupported_request",
        )
    return read(given, lenient=api.lenient)


def _call(served: Served, asked: Asked, *, lenient: bool) -> Call:
    """Encode what a body asks for."""
    most, body = asked.max_tokens or served.default_max_tokens, asked.body
    body = replace(body, thinks=granted_or_near(served.llm, body.thinks, asked.effort))
    return call_for(served.llm, body, most, thinking="thinking", lenient=lenient)


def _head(served: Served, call: Call, asked: Asked) -> Head:
    """Return what is known before the answer.

    Clients have to send a max_tokens, and send large ones, so the context's end may come first.
    """
    most = call.requests[0].params.max_tokens
    is_cut = asked.max_tokens is not None and most is not None and most < asked.max_tokens
    return Head(call.id, served.name, asked.shows_thoughts, is_cut)


async def _events(
    served: Served, call: Call, head: Head, in_flight: InFlight
) -> AsyncGenerator[bytes, None]:
    events = Events(head)
    try:
        first = await in_flight.first()
        for one in events.begin(first.num_prompt_tokens, first.num_cached_tokens):
            yield _encoded(one)
        async with aclosing(generate(served, call, in_flight)) as generated:
            async for new in generated:
                for one in events.add(new) if isinstance(new, Delta) else events.end(new):
                    yield _encoded(one)
    except ApiError as error:
        yield _encoded(as_anthropic(error))


def _encoded(one: Mapping[str, Any]) -> bytes:
    return event(one, one["type"])
