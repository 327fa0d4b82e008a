"""Builds the answers to rows in OpenAI's Batch format, as envelopes of the same format:

{"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error"}
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from l4cli.batch.outcomes import Failure
from l4cli.batch.rows import BadRow, Row
from l4cli.engine.types import Completion, TokenLogprob
from l4cli.prompt.tool_calls import ToolCall

_BAD_REQUEST, _SERVER_ERROR = 400, 500


def answer(
    row: Row,
    completions: Sequence[Completion],
    model: str,
    said: Sequence[tuple[str, tuple[ToolCall, ...]]],
    *,
    timings: bool,
) -> dict[str, Any]:
    """Return the envelope of an answered row.

    row: the row.
    completions: the completion of each choice.
    model: the model's name.
    said: the content and the tool calls of each choice.
    timings: if false, `created` is 0, so equal answers are equal lines.
    """
    is_chat = row.dialect == "chat"
    choice = _chat_choice if is_chat else _text_choice
    body = {
        "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{row.digest.hex()}",
        "object": "chat.completion" if is_chat else "text_completion",
        "created": int(time.time()) if timings else 0,
        "model": model,
        "choices": [
            choice(row, index, completion, *said[index])
            for index, completion in enumerate(completions)
        ],
        "usage": _usage(completions),
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
        error = {"message": message, "type": kind, "param": None, "code": failed.type}
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


def _chat_choice(
    row: Row, index: int, completion: Completion, content: str, calls: Sequence[ToolCall]
) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if completion.reasoning:
        message["reasoning_content"] = completion.reasoning
    if calls:
        message["content"] = content or None
        message["tool_calls"] = tool_calls(row, index, calls)
    logprobs = completion.logprobs
    return {
        "index": index,
        "message": message,
        "finish_reason": "tool_calls" if calls else completion.finish_reason,
        "logprobs": {"content": token_logprobs(logprobs)} if logprobs else None,
    }


def _text_choice(
    _row: Row, index: int, completion: Completion, content: str, _calls: Sequence[ToolCall]
) -> dict[str, Any]:
    return {
        "index": index,
        "text": content,
        "finish_reason": completion.finish_reason,
        "logprobs": _legacy_logprobs(completion.logprobs) if completion.logprobs else None,
    }


def tool_calls(row: Row, index: int, calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    """Return calls in OpenAI's format: arguments as JSON text, and an id that results refer to."""
    return [
        {
            "id": f"call_{row.digest.hex()}_{index}_{number}",
            "type": "function",
            "function": {
                "name": call.name,
                "arguments": json.dumps(call.arguments, ensure_ascii=False),
            },
        }
        for number, call in enumerate(calls)
    ]


def token_logprobs(tokens: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    """Return one entry for each token. Its `bytes` are exact even if it ends inside a character."""
    return [
        {
            **_token(token.piece, token.logprob),
            "top_logprobs": [_token(piece, logprob) for _, piece, logprob in token.top],
        }
        for token in tokens
    ]


def _token(piece: bytes, logprob: float) -> dict[str, Any]:
    text = piece.decode("utf-8", errors="replace")
    return {"token": text, "logprob": logprob, "bytes": list(piece)}


def _legacy_logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    """Return the parallel lists of /v1/completions, the older format; offsets count characters."""
    texts = [token.piece.decode("utf-8", errors="replace") for token in tokens]
    offsets = list(itertools.accumulate(map(len, texts), initial=0))[:-1]
    return {
        "tokens": texts,
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [
            {piece.decode("utf-8", errors="replace"): logprob for _, piece, logprob in token.top}
            for token in tokens
        ],
        "text_offset": offsets,
    }


def _usage(completions: Sequence[Completion]) -> dict[str, Any]:
    """Return the usage of all choices together; their prompt counts once."""
    prompt = completions[0].num_prompt_tokens
    generated = sum(completion.num_completion_tokens for completion in completions)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": completions[0].num_cached_tokens},
    }
