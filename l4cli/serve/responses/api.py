"""POST /v1/responses, whole and streamed; GET and DELETE /v1/responses/ID."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from l4cli.serve.asking import InFlight
from l4cli.serve.errors import ApiError
from l4cli.serve.generation import Call, Delta
from l4cli.serve.handling import Api, encoded, generate
from l4cli.serve.responses import bodies
from l4cli.serve.responses.output import Event, Output, begun, ended, failed
from l4cli.serve.responses.store import Kept, ResponseStore
from l4cli.serve.served import Served
from l4cli.serve.streams import EventStream, JsonResponse, event, to_json, unless_gone


async def responses(request: Request) -> Response:
    """Answer items, which may follow an earlier response."""
    api = Api.of(request)
    given = await api.json_body(request)
    served = api.models.of(given)
    store = _store(request)
    previous = bodies.previous_id(given)
    before = _kept(store, previous, status=400).items if previous is not None else ()
    asked = bodies.read(given, before, lenient=api.lenient)
    served.asking.check_queue()
    call = await encoded(api, served, asked.body, thinking="reasoning")
    in_flight = await served.asking.ask(call.requests, streams=asked.body.stream)
    params = call.requests[0].params
    begin = begun(call.id, int(time.time()), served.name, params, given)
    num_bytes = len(await request.body())  # which has been read, and is held
    answer = _Answer(served, call, in_flight, asked, begin, store, num_bytes)
    if asked.body.stream:
        return EventStream(answer.stream(), in_flight.close)
    try:
        await unless_gone(request, answer.run())
    finally:
        in_flight.close()
    return JsonResponse(answer.response)


async def response(request: Request) -> Response:
    """Return or forget a response that is kept."""
    store, response_id = _store(request), request.path_params["id"]
    kept = _kept(store, response_id, status=404)
    if request.method == "DELETE":
        store.remove(response_id)
        return JsonResponse({"id": response_id, "object": "response", "deleted": True})
    if request.query_params.get("stream") == "true":
        raise ApiError(400, "stream: a response that is kept cannot be streamed", param="stream")
    return JsonResponse(kept.shown)


@dataclass(slots=True)
class _Answer:
    """One response, while it is generated.

    response: what is known of it so far.
    num_bytes: the size of the request's body.
    """

    served: Served
    call: Call
    in_flight: InFlight
    asked: bodies.Asked
    response: Mapping[str, Any]
    store: ResponseStore
    num_bytes: int

    async def run(self) -> None:
        """Generate the whole response. ApiError if that fails."""
        async with aclosing(self._items()) as events:
            async for _ in events:
                pass

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the events of the response, numbered and encoded."""
        numbers = itertools.count()

        def encoded(one: Event) -> bytes:
            return event({**one, "sequence_number": next(numbers)}, one["type"])

        for kind in ("created", "in_progress"):
            yield encoded({"type": f"response.{kind}", "response": self.response})
        output = Output(self.call.id)
        try:
            async with aclosing(self._items(output)) as events:
                async for one in events:
                    yield encoded(one)
        except ApiError as error:
            self.response = failed(self.response, output, error.message)
        kind = self.response["status"]
        yield encoded({"type": f"response.{kind}", "response": self.response})

    async def _items(self, output: Output | None = None) -> AsyncGenerator[Event, None]:
        """Yield the events of the response's items; keep the response when it has ended."""
        output = output or Output(self.call.id)
        async with aclosing(generate(self.served, self.call, self.in_flight)) as generated:
            async for new in generated:
                if isinstance(new, Delta):
                    for one in output.add(new):
                        yield one
                    continue
                for one in output.end(new):
                    yield one
                self.response = ended(self.response, output, new, int(time.time()))
        if self.asked.stores:
            items = (*self.asked.items, *output.items)
            num_bytes = self.num_bytes + len(to_json(output.items)) + 8 * len(items)
            self.store.keep(Kept(self.response, items, num_bytes))


def _store(request: Request) -> ResponseStore:
    store: ResponseStore = request.app.state.responses
    return store


def _kept(store: ResponseStore, response_id: str, *, status: int) -> Kept:
    kept = store.get(response_id)
    if kept is None:
        raise ApiError(
            status,
            f"there is no response {response_id[:100]!r}: it was not stored, or the server has "
            "been restarted, or has dropped it for newer ones",
            code="previous_response_not_found",
            param="previous_response_id" if status == 400 else None,
        )
    return kept
