"""Writes responses in the format of OpenAI's /v1/responses: items, and the events of a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from l4cli.engine.types import SamplingParams, TokenLogprob
from l4cli.openai import answers
from l4cli.prompt.tool_calls import ToolCall
from l4cli.serve.generation import Delta, Ended

Event = Mapping[str, Any]
Kind = Literal["message", "reasoning"]
_PART: Mapping[Kind, str] = {"message": "output_text", "reasoning": "reasoning_text"}
_PREFIX: Mapping[Kind, str] = {"message": "msg", "reasoning": "rs"}


class Output:
    """The items of a response, while they are generated, and the events that tell of them.

    call_id: the call's own id, which the ids of the items have in them.
    """

    def __init__(self, call_id: str) -> None:
        self.items: list[dict[str, Any]] = []
        self._call_id = call_id
        self._kind: Kind | None = None  # of the last item, if it is not whole yet
        self._logprobs: list[TokenLogprob] = []  # of tokens whose text is still held back

    def add(self, delta: Delta) -> Iterator[Event]:
        """Yield what new text gives."""
        if delta.reasoning:
            yield from self._add("reasoning", delta.reasoning, ())
        else:
            self._logprobs += delta.logprobs
        if delta.text:
            logprobs, self._logprobs = self._logprobs, []
            yield from self._add("message", delta.text, logprobs)

    def end(self, ended: Ended) -> Iterator[Event]:
        """Yield what comes last: the rest of the text, and the calls."""
        yield from self.add(ended.rest)
        is_cut = ended.completion.finish_reason == "length" and not ended.said.calls
        yield from self._close("incomplete" if is_cut else "completed")
        for call in ended.said.calls:
            yield from self._call(call)

    def _add(self, kind: Kind, text: str, logprobs: Sequence[TokenLogprob]) -> Iterator[Event]:
        if self._kind != kind:
            yield from self._close("completed")
            yield from self._open(kind)
        part, shown = self.items[-1]["content"][0], answers.token_logprobs(logprobs)
        part["text"] += text
        event = self._of_part({"delta": text})
        if kind == "message":
            part["logprobs"] += shown
            event["logprobs"] = shown
        yield {"type": f"response.{_PART[kind]}.delta", **event}

    def _open(self, kind: Kind) -> Iterator[Event]:
        self._kind = kind
        item: dict[str, Any] = {
            "id": f"{_PREFIX[kind]}_{self._call_id}_{len(self.items)}",
            "type": kind,
            "status": "in_progress",
            "content": [],
        }
        if kind == "message":
            item["role"] = "assistant"
        else:
            item["summary"] = []
        self.items.append(item)
        yield self._added()
        part: dict[str, Any] = {"type": _PART[kind], "text": ""}
        if kind == "message":
            part |= {"annotations": [], "logprobs": []}
        item["content"].append(part)
        yield {"type": "response.content_part.added", **self._of_part({"part": _copied(part)})}

    def _close(self, status: str) -> Iterator[Event]:
        if self._kind is None:
            return
        item, kind = self.items[-1], self._kind
        self._kind = None
        part = item["content"][0]
        item["status"] = status
        event = self._of_part({"text": part["text"]})
        if kind == "message":
            event["logprobs"] = part["logprobs"]
        yield {"type": f"response.{_PART[kind]}.done", **event}
        yield {"type": "response.content_part.done", **self._of_part({"part": part})}
        yield self._done()

    def _call(self, call: ToolCall) -> Iterator[Event]:
        number, arguments = len(self.items), json.dumps(call.arguments, ensure_ascii=False)
        item = {
            "id": f"fc_{self._call_id}_{number}",
            "type": "function_call",
            "status": "in_progress",
            "call_id": f"call_{self._call_id}_{number}",
            "name": call.name,
            "arguments": "",
        }
        self.items.append(item)
        yield self._added()
        event = {"item_id": item["id"], "output_index": number}
        item |= {"arguments": arguments, "status": "completed"}
        yield {"type": "response.function_call_arguments.delta", **event, "delta": arguments}
        yield {"type": "response.function_call_arguments.done", **event, "arguments": arguments}
        yield self._done()

    def _added(self) -> Event:
        """The event of the last item; what is added to the item later is not in it."""
        index, item = len(self.items) - 1, _copied(self.items[-1])
        return {"type": "response.output_item.added", "output_index": index, "item": item}

    def _done(self) -> Event:
        index, item = len(self.items) - 1, self.items[-1]
        return {"type": "response.output_item.done", "output_index": index, "item": item}

    def _of_part(self, what: Mapping[str, Any]) -> dict[str, Any]:
        """What an event of the last item's part has."""
        index, item = len(self.items) - 1, self.items[-1]
        return {"item_id": item["id"], "output_index": index, "content_index": 0, **what}


def _copied(value: Mapping[str, Any]) -> dict[str, Any]:
    """A copy that does not change with the lists of the original."""
    return {key: list(one) if isinstance(one, list) else one for key, one in value.items()}


def begun(
    call_id: str, created: int, model: str, params: SamplingParams, body: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a response that has no output yet.

    params: how its tokens are chosen, which may come from the model's defaults.
    body: the request's body, much of which a response repeats.
    """
    reasoning = body.get("reasoning") or {}
    text = {name: value for name, value in (body.get("text") or {}).items() if value is not None}
    return {
        "id": f"resp_{call_id}",
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": body.get("max_tool_calls"),
        "metadata": body.get("metadata") or {},
        "model": model,
        "output": [],
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "previous_response_id": body.get("previous_response_id"),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "reasoning": {"effort": reasoning.get("effort"), "summary": None},
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": "default",
        "store": body.get("store") is not False,
        "temperature": params.temperature,
        "text": {"format": {"type": "text"}, **text},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": body.get("tools") or [],
        "top_logprobs": params.logprobs or 0,
        "top_p": params.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": body.get("user"),
    }


def ended(response: Mapping[str, Any], output: Output, end: Ended, now: int) -> dict[str, Any]:
    """Return a response with its whole output."""
    is_cut = end.completion.finish_reason == "length" and not end.said.calls
    return {
        **response,
        "status": "incomplete" if is_cut else "completed",
        "completed_at": None if is_cut else now,
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "output": output.items,
        "usage": _usage(end),
    }


def failed(response: Mapping[str, Any], output: Output, message: str) -> dict[str, Any]:
    """Return a response that could not be finished."""
    error = {"code": "server_error", "message": message}
    return {**response, "status": "failed", "output": output.items, "error": error}


def _usage(end: Ended) -> dict[str, Any]:
    completion = end.completion
    prompt, generated = completion.num_prompt_tokens, completion.num_completion_tokens
    return {
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": completion.num_cached_tokens,
            "cache_write_tokens": 0,
        },
        "output_tokens": generated,
        "output_tokens_details": {"reasoning_tokens": end.num_thought_tokens},
        "total_tokens": prompt + generated,
    }
