"""What became of one request: a Completion, or a Failure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from l4cli.engine.types import Completion, Constraint, SamplingParams
from l4cli.errors import EngineError, L4Error

_INCOMPLETE = {
    "json_schema": "incomplete_json",
    "json_object": "incomplete_json",
    "grammar": "incomplete_grammar",
    "regex": "incomplete_regex",
    "lark": "incomplete_grammar",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without the answer it asked for.

    `type` names the error in output rows. `is_refusal` tells that it never ran. `partial` is what
    there was of an answer, as fields of the error.
    """

    type: str
    message: str
    is_refusal: bool = False
    partial: Mapping[str, Any] = field(default_factory=dict)


Outcome = Completion | Failure


def refused(error: L4Error) -> Failure:
    """The failure that an error on the way to the engine is."""
    return Failure(error.type, str(error), is_refusal=not isinstance(error, EngineError))


def timed_out(seconds: float, text: str) -> Failure:
    """The failure of a request given up after `seconds`, with what it had said."""
    message = f"not finished within --row-timeout of {seconds:g} s"
    return Failure("timeout", message, partial=_partial(text))


def outcome_of(completion: Completion, params: SamplingParams) -> Outcome:
    """A completion, if it keeps what its request promised: under a constraint, a whole answer."""
    if completion.finish_reason == "error":
        message = completion.error or "unknown error"
        return Failure("engine", message, partial=_partial(completion.text))
    if params.constraint is None or _is_whole(completion, params.constraint):
        return completion
    if completion.finish_reason == "length":
        cause = f"cut off at {completion.num_completion_tokens} tokens"
    else:
        cause = "ended early"
    what = "JSON" if params.constraint.kind.startswith("json") else params.constraint.kind
    message = f"the answer was {cause}, before its {what} was complete: raise max_tokens"
    return Failure(_INCOMPLETE[params.constraint.kind], message, partial=_partial(completion.text))


def _is_whole(completion: Completion, constraint: Constraint) -> bool:
    if completion.finish_reason != "stop":
        return False
    if not constraint.kind.startswith("json"):
        return True
    try:
        json.loads(completion.text)
    except ValueError:
        return False  # a stop string can end it too
    return True


def _partial(text: str) -> dict[str, Any]:
    return {"text": text} if text else {}
