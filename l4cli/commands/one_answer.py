"""One answer as a value: what --schema and --json add to an answer on stdout."""

from __future__ import annotations

from typing import Any

from l4cli.amounts import counted
from l4cli.engine.answer import Answer

_LONGEST_REPEATED = 300  # characters of a passage
_LEAST_REPEATED = 60  # characters that it fills; a rule of dashes may be as long as a line


def value_of(text: str) -> Any:
    """Return the JSON value of an answer, after its thoughts; None if it is not whole."""
    from l4cli.prompt import strict_json

    try:
        return strict_json.loads(text.rpartition("</think>")[2])
    except ValueError:
        return None


def cut_off(answer: Answer) -> str:
    """Say that an answer ended at -n, --max-tokens, and what would help."""
    after = f"cut off after {counted(len(answer.token_ids), 'token')}"
    if not _repeats_itself(answer.text):
        return f"the answer was {after}; -n allows longer ones"
    return (
        f"the answer repeated itself until it was {after}, as small models do: ask in other words, "
        "or try --temperature 0.7"
    )


def _repeats_itself(text: str) -> bool:
    """Whether a text ends in the same passage, again and again."""
    for length in range(1, _LONGEST_REPEATED + 1):
        again = text[-max(3 * length, _LEAST_REPEATED) :]
        if len(text) >= len(again) + length and text[:-length].endswith(again):
            return True
    return False


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
