"""Builds answers in OpenAI's format: choices, logprobs and usage."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

from l4cli.engine.types import Completion, TokenLogprob
from l4cli.errors import ContextOverflowError
from l4cli.openai.said import Said
from l4cli.prompt.tool_calls import ToolCall


def message(said: Said, call_id: str) -> dict[str, Any]:
    """Return the assistant's message.

    call_id: what the ids of the calls begin with; their numbers follow.
    """
    built: dict[str, Any] = {"role": "assistant", "content": said.text}
    if said.reasoning:
        built["reasoning_content"] = said.reasoning
    if said.calls:
        built["content"] = said.text or None
        built["tool_calls"] = tool_calls(said.calls, call_id)
    return built


def chat_choice(index: int, completion: Completion, said: Said, call_id: str) -> dict[str, Any]:
    """Return one choice of a chat completion; `message` says what `call_id` is."""
    logprobs = completion.logprobs
    return {
        "index": index,
        "message": message(said, call_id),
        "finish_reason": "tool_calls" if said.calls else completion.finish_reason,
        "logprobs": {"content": token_logprobs(logprobs)} if logprobs else None,
    }


def text_choice(index: int, completion: Completion, text: str) -> dict[str, Any]:
    """Return one choice of /v1/completions."""
    return {
        "index": index,
        "text": text,
        "finish_reason": completion.finish_reason,
        "logprobs": legacy_logprobs(completion.logprobs) if completion.logprobs else None,
    }


def tool_calls(calls: Sequence[ToolCall], call_id: str) -> list[dict[str, Any]]:
    """Return calls in OpenAI's format: arguments as JSON text, and an id that results refer to."""
    return [
        {
            "id": f"{call_id}{number}",
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
    return {"token": _text(piece), "logprob": logprob, "bytes": list(piece)}


def legacy_logprobs(tokens: Sequence[TokenLogprob], start: int = 0) -> dict[str, Any]:
    """Return the parallel lists of /v1/completions, the older format.

    start: the offset of the first token's text, in characters.
    """
    texts = [_text(token.piece) for token in tokens]
    offsets = list(itertools.accumulate(map(len, texts), initial=start))[:-1]
    return {
        "tokens": texts,
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [
            {_text(piece): logprob for _, piece, logprob in token.top} for token in tokens
        ],
        "text_offset": offsets,
    }


def _text(piece: bytes) -> str:
    return piece.decode("utf-8", errors="replace")


def usage(completions: Sequence[Completion]) -> dict[str, Any]:
    """Return the usage of all choices together; their prompt counts once."""
    prompt = completions[0].num_prompt_tokens
    generated = sum(completion.num_completion_tokens for completion in completions)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": completions[0].num_cached_tokens},
    }


def code_of(error_type: str) -> str:
    """Return OpenAI's code for a type of l4's errors; the type itself if OpenAI has none."""
    return "context_length_exceeded" if error_type == ContextOverflowError.type else error_type
