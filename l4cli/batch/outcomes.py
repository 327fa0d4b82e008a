"""The outcome of one request: a Completion if it succeeded, otherwise a Failure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from l4cli.engine.completion import without_thought
from l4cli.engine.thoughts import Thoughts
from l4cli.engine.types import Completion, Constraint, SamplingParams
from l4cli.errors import EngineError, L4Error

_INCOMPLETE = {
    "json_schema": "incomplete_json",
    "json_object": "incomplete_json",
    "grammar": "incomplete_grammar",
    "regex": "incomplete_regex",
    "lark": "incomplete_grammar",
    "calls": "incomplete_tool_call",
}
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that did not get the answer it asked for.

    type: the error's type in output rows.
    message: what went wrong.
    is_refusal: whether the request was rejected before it ran.
    partial: the text generated until then, as fields of the error; empty if there is none.
    """

    type: str
    message: str
    is_refusal: bool = False
    partial: Mapping[str, Any] = field(default_factory=dict)


Outcome = Completion | Failure


def refused(error: L4Error) -> Failure:
    """Return the failure for an error that was raised before the engine accepted the request."""
    return Failure(error.type, str(error), is_refusal=not isinstance(error, EngineError))


def timed_out(seconds: float, text: str) -> Failure:
    """Return the failure of a request that was aborted after `seconds`, with its text so far."""
    message = f"not finished within --row-timeout of {seconds:g} s: raise --row-timeout"
    return Failure("timeout", message, partial=_partial(text))


def outcome_of(
    completion: Completion,
    params: SamplingParams,
    thoughts: Thoughts | None = None,
    *,
    more_room: str = "raise max_tokens",
) -> Outcome:
    """Return the completion itself if it is valid, otherwise a Failure.

    What was thought is set apart from the text, unless the text shows it in `<think>`.

    more_room: how an answer is allowed more tokens, for the message of one that was cut off.

    With a constraint, an answer is valid only if it is complete, because an incomplete answer
    (half a JSON value, for example) does not satisfy the constraint.
    """
    if completion.finish_reason == "error":
        message = completion.error or "unknown error"
        return Failure("engine", message, partial=_partial(completion.text))
    answer = without_thought(completion, params.constraint)
    if params.constraint is None or _is_whole(answer, params.constraint):
        return thoughts.apart(answer) if thoughts else answer
    if completion.finish_reason == "length":
        cause, way = f"was cut off at {completion.num_completion_tokens:,} tokens", more_room
    elif completion.finish_reason == "stop" and params.stop:
        cause, way = "ended at a stop string", "give another stop, or none"
    else:
        cause, way = "ended early", "ask again"
    what = {"json_schema": "JSON", "json_object": "JSON", "calls": "tool call"}.get(
        params.constraint.kind, params.constraint.kind
    )
    message = f"the answer {cause}, before its {what} was complete: {way}"
    return Failure(_INCOMPLETE[params.constraint.kind], message, partial=_partial(completion.text))


def _is_whole(completion: Completion, constraint: Constraint) -> bool:
    if completion.finish_reason != "stop":
        return False
    if not constraint.kind.startswith("json"):
        return True
    try:
        json.loads(completion.text)
    except ValueError:
        return False  # a stop string ended the answer early
    except RecursionError:  # too deep for Python, and still whole if all is closed
        outside = _STRING.sub("", completion.text)
        return sum(map(outside.count, "[{")) == sum(map(outside.count, "]}"))
    return True


def _partial(text: str) -> dict[str, Any]:
    return {"text": text} if text else {}
