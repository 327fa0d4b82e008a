"""One answer as a value: what --schema and --json add to an answer on stdout."""

from __future__ import annotations

from typing import Any

from l4cli.engine.answer import Answer


def value_of(text: str) -> Any:
    """Return the JSON value of an answer, after its thoughts; None if it is not whole."""
    from l4cli.prompt import strict_json

    try:
        return strict_json.loads(text.rpartition("</think>")[2])
    except ValueError:
        return None


def cut_off(num_tokens: int) -> str:
    """Say that an answer ended at -n, --max-tokens."""
    return f"the answer was cut off after {num_tokens:,} tokens; -n allows longer ones"


def as_json(answer: Answer, model: str, *, has_schema: bool) -> dict[str, Any]:
    """Return the answer for --json; with a schema also its value, which is None if it was cut."""
    parsed = {"parsed": value_of(answer.text)} if has_schema else {}
    return {
        "text": answer.text,
        **parsed,
        "finish_reason": answer.finish_reason,
        "model": model,
        "usage": {
            "prompt_tokens": answer.num_prompt_tokens,
            "cached_tokens": answer.num_cached_tokens,
            "completion_tokens": len(answer.token_ids),
        },
    }
