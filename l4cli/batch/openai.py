"""Rows in OpenAI's Batch format, and answers in kind.

In:  {"custom_id", "method": "POST", "url": "/v1/chat/completions" or "/v1/completions", "body"}
Out: {"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error"}

A body is answered by the model that is loaded, whatever model it names. Its fields have OpenAI's
names, and top_k, min_p, repetition_penalty, ignore_eos, grammar and regex may stand beside them.
What would change the answer and is not supported is refused; what would not is passed over.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from l4cli.batch import fields
from l4cli.errors import InputError

if TYPE_CHECKING:
    from l4cli.batch.outcomes import Failure
    from l4cli.batch.rows import BadRow, Row
    from l4cli.engine.types import Completion, TokenLogprob
    from l4cli.prompt.tool_calls import ToolCall

_DIALECTS: Mapping[str, Literal["chat", "completions"]] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
}
# Nothing in them changes an answer: they are for OpenAI's books, caches and machines.
_PASSED_OVER = {
    "model",
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "parallel_tool_calls",
    "stream",
    "stream_options",
}
_SHARED = fields.SAMPLING | {"n", "max_completion_tokens", *_PASSED_OVER}
_FIELDS = {
    "chat": _SHARED | {"messages", "tools", "tool_choice"},
    "completions": _SHARED | {"prompt", "echo", "suffix", "best_of"},
}
_BAD_REQUEST, _SERVER_ERROR = 400, 500


def is_envelope(value: Mapping[str, Any]) -> bool:
    """Whether a row is meant to be one of OpenAI's."""
    return "custom_id" in value or ("url" in value and "body" in value)


def dialect(value: Mapping[str, Any]) -> Literal["chat", "completions"]:
    """Whose shape the answer takes."""
    url = value.get("url")
    return _DIALECTS.get(url, "chat") if isinstance(url, str) else "chat"


def read(value: Mapping[str, Any], *, lenient: bool) -> dict[str, Any]:
    """What an envelope sets of a Row; InputError names what is wrong."""
    fields.text("custom_id", value.get("custom_id"))
    if value.get("method", "POST") != "POST":
        raise InputError("method must be POST")
    if value.get("url") not in list(_DIALECTS):  # a list may be asked for what has no hash
        raise InputError(f"url must be {' or '.join(_DIALECTS)}, not {value.get('url')!r}")
    body = value.get("body")
    if not isinstance(body, dict):
        raise InputError(f"body must be an object, not {fields.json_type(body)}")
    kind = dialect(value)
    if not lenient:
        fields.refuse_unknown(value, frozenset({"custom_id", "method", "url", "body"}))
        fields.refuse_unknown(body, frozenset(_FIELDS[kind]))
    fields.refuse_stream(body)
    body = _renamed(body)
    asked = {"n": fields.choices(body), "sampling": fields.sampling(body)}
    if kind == "chat":
        messages = fields.messages(body.get("messages"))
        return {**asked, "messages": messages, "tools": fields.tools(body)}
    return {**asked, "prompt": _prompt(body)}


def answer(
    row: Row,
    completions: Sequence[Completion],
    model: str,
    said: Sequence[tuple[str, tuple[ToolCall, ...]]],
    *,
    timings: bool,
) -> dict[str, Any]:
    """The envelope of a row that was answered; `said` has content and calls of each choice.

    Without `timings`, `created` is 0, so that the same answer is the same line.
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
    """The envelope of a row that was not.

    What a server would have refused has a response with its status; what happened on the way, a
    timeout or an answer cut short, an error beside it.
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
    """Whether an envelope brings an error."""
    response = output["response"]
    return response is None or response["status_code"] != 200


def _renamed(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body with OpenAI's newer name for max_tokens taken for it."""
    renamed = dict(body)
    newer = renamed.pop("max_completion_tokens", None)
    if newer is not None:
        if renamed.get("max_tokens") not in (None, newer):
            raise InputError("max_tokens and max_completion_tokens differ")
        fields.sampling({"max_tokens": newer})
        renamed["max_tokens"] = newer
    return renamed


def _prompt(body: Mapping[str, Any]) -> str:
    """The text to continue; a list of one is taken for what is in it."""
    for name, harmless in (("echo", (False,)), ("suffix", ("",)), ("best_of", (1,))):
        if body.get(name) not in (None, *harmless):
            raise InputError(f"{name} is not supported")
    prompt = body.get("prompt")
    if isinstance(prompt, list):
        if len(prompt) != 1:
            raise InputError(
                f"prompt must be one text, not a list of {len(prompt)}: a row for each"
            )
        (prompt,) = prompt
    return fields.text("prompt", prompt)


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
    """Calls as OpenAI writes them: arguments as JSON text, an id to answer to."""
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
    """One entry a token; `bytes` tells what half a character's text cannot."""
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
    """The older form of /v1/completions: lists side by side; offsets count characters."""
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
    """The prompt counts once, however many answers it got."""
    prompt = completions[0].num_prompt_tokens
    generated = sum(completion.num_completion_tokens for completion in completions)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": completions[0].num_cached_tokens},
    }
