"""Builds the answers to rows in OpenAI's Batch format, as envelopes of the same format:

{"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error"}
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from l4cli.batch.outcomes import Failure
from l4cli.batch.rows import BadRow, Row
from l4cli.engine.types import Completion
from l4cli.openai import answers
from l4cli.openai.said import Said

_BAD_REQUEST, _SERVER_ERROR = 400, 500


def answer(
    row: Row,
    completions: Sequence[Completion],
    model: str,
    said: Sequence[Said],
    *,
    timings: bool,
) -> dict[str, Any]:
    """Return the envelope of an answered row.

    row: the row.
    completions: the completion of each choice.
    model: the model's name.
    said: the text and the tool calls of each choice.
    timings: if false, `created` is 0, so equal answers are equal lines.
    """
    is_chat = row.dialect == "chat"
    choices = [
        answers.chat_choice(index, completion, said[index], call_id(row, index))
        if is_chat
        else answers.text_choice(index, completion, said[index].text)
        for index, completion in enumerate(completions)
    ]
    for choice, completion in zip(choices, completions, strict=True):
        if completion.experts is not None:
            choice["experts"] = experts(completion)
    body = {
        "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{row.digest.hex()}",
        "object": "chat.completion" if is_chat else "text_completion",
        "created": int(time.time()) if timings else 0,
        "model": model,
        "choices": choices,
        "usage": answers.usage(completions),
    }
    return _envelope(row, {"status_code": 200, "request_id": _request_id(row), "body": body}, None)


def failure(row: Row | BadRow, failed: Failure) -> dict[str, Any]:
    """Return the envelope of a row that failed.

    A row that a server would reject, or that fails in the engine, has a response with status 400 or
    500. A timeout or an incomplete answer has no response but an "error" in the envelope.
    """
    message = f"line {row.line}: {failed.message}"
    if failed.is_refusal or failed.type == "engine":
        status = _BAD_REQUEST if failed.is_refusal else _SERVER_ERROR
        kind = "invalid_request_error" if failed.is_refusal else "server_error"
        error = {
            "message": message,
            "type": kind,
            "param": None,
            "code": answers.code_of(failed.type),
        }
        body = {"error": error}
        response = {"status_code": status, "request_id": _request_id(row), "body": body}
        return _envelope(row, response, None)
    return _envelope(row, None, {"code": failed.type, "message": message, **failed.partial})


def has_failed(output: Mapping[str, Any]) -> bool:
    """Whether an envelope contains an error."""
    response = output["response"]
    return response is None or response["status_code"] != 200


def first_error(output: Mapping[str, Any]) -> tuple[str, str]:
    """Return the type and the message of the error in the envelope of a row that failed."""
    error = output["error"] or output["response"]["body"]["error"]
    return error["code"], error["message"]


def _envelope(
    row: Row | BadRow, response: dict[str, Any] | None, error: dict[str, Any] | None
) -> dict[str, Any]:
    return {
        "id": f"batch_req_{row.digest.hex()}",
        "custom_id": row.id,
        "response": response,
        "error": error,
    }


def _request_id(row: Row | BadRow) -> str:
    return f"req_{row.digest.hex()}"


def experts(completion: Completion) -> dict[str, dict[str, int]]:
    """Return how often each expert was chosen for an answer: {layer: {expert: how often}}."""
    found = completion.experts or {}
    return {
        str(layer): {str(expert): count for expert, count in counts.items()}
        for layer, counts in found.items()
    }


def call_id(row: Row, index: int) -> str:
    """Return what the ids of the calls of a row's choice begin with."""
    return f"call_{row.digest.hex()}_{index}_"
