"""Writes answers in the format of Anthropic's /v1/messages, whole and as events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from l4cli.prompt.tool_calls import ToolCall
from l4cli.serve.generation import Delta, Ended

Event = Mapping[str, Any]
PING: Event = {"type": "ping"}
_BEGUN: Mapping[str, Event] = {
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
    "text": {"type": "text", "text": ""},
}


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of an answer before it begins.

    id: the call's own id.
    model: the model's name.
    shows_thoughts: whether what was thought is shown.
    is_cut: whether the context has less room for the answer than was asked for.
    """

    id: str
    model: str
    shows_thoughts: bool = True
    is_cut: bool = False


def message(head: Head, ended: Ended) -> dict[str, Any]:
    """Return a whole answer."""
    said, completion = ended.said, ended.completion
    content: list[dict[str, Any]] = []
    if said.reasoning and head.shows_thoughts:
        content.append({"type": "thinking", "thinking": said.reasoning, "signature": ""})
    if said.text:
        content.append({"type": "text", "text": said.text})
    content += [
        {**_call(head, number, call), "input": call.arguments}
        for number, call in enumerate(said.calls)
    ]
    prompt, cached = completion.num_prompt_tokens, completion.num_cached_tokens
    usage = _prompt_usage(prompt, cached) | _answer_usage(ended)
    return _message(head, content, usage) | _ending(head, ended)


class Events:
    """The events of an answer, while it is generated."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._block = _Block()

    def begin(self, num_prompt_tokens: int, num_cached_tokens: int) -> Iterator[Event]:
        """Yield what comes before any text."""
        usage = _prompt_usage(num_prompt_tokens, num_cached_tokens)
        empty = _message(self._head, [], {**usage, "output_tokens": 0})
        yield {"type": "message_start", "message": empty}
        yield PING

    def add(self, delta: Delta) -> Iterator[Event]:
        """Yield what new text gives."""
        if delta.reasoning and self._head.shows_thoughts:
            yield from self._block.add("thinking", delta.reasoning)
        if delta.text:
            yield from self._block.add("text", delta.text)

    def end(self, ended: Ended) -> Iterator[Event]:
        """Yield what comes last: the rest of the text, the calls, and why the answer ended."""
        yield from self.add(ended.rest)
        yield from self._block.close()
        for number, call in enumerate(ended.said.calls):
            arguments = json.dumps(call.arguments, ensure_ascii=False)
            begun = {**_call(self._head, number, call), "input": {}}
            yield from self._block.whole(
                begun, {"type": "input_json_delta", "partial_json": arguments}
            )
        completion = ended.completion
        usage = _prompt_usage(completion.num_prompt_tokens, completion.num_cached_tokens)
        yield {
            "type": "message_delta",
            "delta": _ending(self._head, ended),
            "usage": usage | _answer_usage(ended),
        }
        yield {"type": "message_stop"}


@dataclass(slots=True)
class _Block:
    """The block of content that is being written."""

    index: int = 0
    kind: Literal["thinking", "text"] | None = None  # None between two blocks

    def add(self, kind: Literal["thinking", "text"], text: str) -> Iterator[Event]:
        """Yield the events for text, which begins a block if it is of another kind."""
        if self.kind != kind:
            yield from self.close()
            yield self._start(_BEGUN[kind])
            self.kind = kind
        yield self._delta({"type": f"{kind}_delta", kind: text})

    def whole(self, begun: Event, delta: Event) -> Iterator[Event]:
        """Yield the events of a block that is known as a whole."""
        yield self._start(begun)
        yield self._delta(delta)
        yield self._stop()

    def close(self) -> Iterator[Event]:
        if self.kind == "thinking":
            yield self._delta({"type": "signature_delta", "signature": ""})
        if self.kind is not None:
            yield self._stop()
            self.kind = None

    def _start(self, block: Event) -> Event:
        return {"type": "content_block_start", "index": self.index, "content_block": block}

    def _delta(self, delta: Event) -> Event:
        return {"type": "content_block_delta", "index": self.index, "delta": delta}

    def _stop(self) -> Event:
        self.index += 1
        return {"type": "content_block_stop", "index": self.index - 1}


def _message(head: Head, content: list[Any], usage: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": f"msg_{head.id}",
        "type": "message",
        "role": "assistant",
        "model": head.model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }


def _call(head: Head, number: int, call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{head.id}_{number}", "name": call.name}


def _ending(head: Head, ended: Ended) -> dict[str, Any]:
    """Why an answer ended."""
    completion = ended.completion
    reason = "end_turn"
    if ended.said.calls:
        reason = "tool_use"
    elif completion.finish_reason == "length":
        reason = "model_context_window_exceeded" if head.is_cut else "max_tokens"
    elif completion.stopped_by is not None:
        reason = "stop_sequence"
    stop = completion.stopped_by if reason == "stop_sequence" else None
    return {"stop_reason": reason, "stop_sequence": stop}


def _prompt_usage(num_tokens: int, num_cached: int) -> dict[str, int]:
    """The tokens of a prompt. All of them together are the sum, as Anthropic counts.

    Every prompt is cached for free, so none counts as written to the cache.
    """
    return {
        "input_tokens": num_tokens - num_cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": num_cached,
    }


def _answer_usage(ended: Ended) -> dict[str, Any]:
    return {
        "output_tokens": ended.completion.num_completion_tokens,
        "output_tokens_details": {"thinking_tokens": ended.num_thought_tokens},
    }
