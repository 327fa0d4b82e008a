"""What the handlers of all APIs share: the server's settings, bodies, and generating."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.requests import Request as HttpRequest

from l4cli.errors import EngineError, InputError
from l4cli.openai.bodies import Body
from l4cli.prompt import strict_json
from l4cli.serve.asking import InFlight
from l4cli.serve.batches.service import Batches
from l4cli.serve.errors import ApiError, api_error
from l4cli.serve.generation import Call, Delta, Ended, Generation, call_for
from l4cli.serve.served import Models, Served
from l4cli.serve.streams import unless_gone


@dataclass(frozen=True, slots=True)
class Api:
    """What handlers need to know of the server.

    models: the served models.
    batches: the files and batches that are kept.
    lenient: whether unknown fields of bodies are ignored.
    """

    models: Models
    batches: Batches
    lenient: bool = False

    @classmethod
    def of(cls, request: HttpRequest) -> Api:
        """Return the server's own, from the request's application."""
        api: Api = request.app.state.api
        return api

    async def json_body(self, request: HttpRequest) -> dict[str, Any]:
        """Return the JSON object that a request brings; else raise ApiError or InputError."""
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind not in ("application/json", ""):
            raise ApiError(
                415, f"the content type must be application/json, not {kind} (curl: use --json)"
            )
        raw = await request.body()
        value = _parsed(raw)
        if not isinstance(value, dict):
            raise ApiError(400, "the body must be a JSON object")
        return value


def _parsed(raw: bytes) -> Any:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"the body is not UTF-8: byte {error.start + 1} is wrong") from None
    if not text.strip():
        raise InputError("the body is empty: send a JSON object")
    try:
        return strict_json.parse(text)
    except InputError as error:
        why = str(error).removeprefix("not JSON: ")
        raise InputError(f"the body is not JSON: {why}") from None


async def encoded(
    api: Api, served: Served, body: Body, *, thinking: str = "reasoning_effort"
) -> Call:
    """Encode what a body asks for. Raises L4Error if that is not possible.

    thinking: the field that says whether the model is to think first, or how hard.
    """
    most, lenient = served.default_max_tokens, api.lenient
    return await served.asking.encode(
        partial(call_for, served.llm, body, most, thinking=thinking, lenient=lenient)
    )


async def generate(
    served: Served, call: Call, in_flight: InFlight
) -> AsyncGenerator[Delta | Ended, None]:
    """Yield what the answers of a call say, as it is generated. ApiError if computing one fails."""
    generation = Generation(served.llm, call)
    async with aclosing(in_flight.outputs()) as outputs:
        async for output in outputs:
            for one in generation.feed(output):
                if isinstance(one, Ended):
                    _note_end(served, one)
                yield one


async def whole(request: HttpRequest, served: Served, call: Call) -> list[Ended]:
    """Return the answers of a call in the order of their indices. ApiError if one fails.

    They are aborted, with GoneError, when the client goes away.
    """
    in_flight = await served.asking.ask(call.requests, streams=False)
    try:
        return await unless_gone(request, _ended(served, call, in_flight))
    finally:
        in_flight.close()


async def _ended(served: Served, call: Call, in_flight: InFlight) -> list[Ended]:
    async with aclosing(generate(served, call, in_flight)) as events:
        ended = [one async for one in events if isinstance(one, Ended)]
    return sorted(ended, key=lambda one: one.choice)


def _note_end(served: Served, ended: Ended) -> None:
    completion = ended.completion
    served.counts.clients.note(completion.finish_reason, completion.ttft)
    if completion.finish_reason == "error":
        raise api_error(EngineError(completion.error or "computing the answer failed"))
