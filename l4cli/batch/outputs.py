"""Builds output rows: one JSON object on each line, in a format that depends on the input row.

    prompt      {"id", "text", "finish_reason", "usage", "timings", "model", "seed"}
    messages    the same, and "message": {"role", "content"}, which can go into the next request
    n > 1       the same, with "choices": [{"text", "finish_reason", "seed"}, …] instead of "text",
                "finish_reason" and "seed"
    document    {"id", "document", "answers": [{"id": "id/0", "question", "text", …}, …], …}
    an error    {"id", "error": {"type", "message", "line"}}; the error also has "text" if part of
                an answer was generated
    OpenAI      see openai_answers.py

If the experts of answers were asked for, "experts" is in the row, or in each of its choices or
answers: {layer: {expert: how often}}. If logprobs were asked for, "logprobs" is there, too. If the
row has tools and the answer calls them, the message (or the text row) has "tool_calls" in OpenAI's
format. Times are in seconds from when the engine got the row: "ttft" until the first token of the
first answer, "seconds" until the end of the last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from l4cli.batch import openai_answers
from l4cli.batch.outcomes import Failure, Outcome
from l4cli.batch.rows import BadRow, Row
from l4cli.engine.types import Completion
from l4cli.openai import answers
from l4cli.openai.said import Said, Tagged, said_in

_BEGINNING = b'{"id": '  # of every row
_ALWAYS = ({"usage", "model"}, {"error"}, {"custom_id", "response"})  # one of these is in each


def _as_it_is(completion: Completion) -> str:
    return completion.text


def output(
    row: Row,
    outcomes: Sequence[Outcome],
    model: str,
    *,
    timings: bool = True,
    tagged: Tagged = _as_it_is,
) -> dict[str, Any]:
    """Return the output row for the outcomes of a row's requests, in the order of the requests.

    `model` is the model's name. `timings` says whether the row includes timings. `tagged` returns
    the text of an answer with the tags around its calls, which as control tokens have no text.
    """
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    if row.document and len(failures) < len(outcomes):
        return _document(row, outcomes, model, timings, tagged)
    if failures:
        return failure(row, _with_siblings(failures[0], outcomes))
    completions = [outcome for outcome in outcomes if isinstance(outcome, Completion)]
    return answer(row, completions, model, timings=timings, tagged=tagged)


def answer(
    row: Row,
    completions: Sequence[Completion],
    model: str,
    *,
    timings: bool = True,
    tagged: Tagged = _as_it_is,
) -> dict[str, Any]:
    """Return the output row of a row whose requests all succeeded."""
    if row.document:
        return _document(row, completions, model, timings, tagged)
    said = [_said(row, completion, tagged) for completion in completions]
    if row.dialect != "bare":
        return openai_answers.answer(row, completions, model, said, timings=timings)
    choices = [
        {
            **_content(row, index, said[index]),
            "finish_reason": completion.finish_reason,
            **_logprobs(completion),
            **experts(completion),
        }
        for index, completion in enumerate(completions)
    ]
    if row.n == 1:
        fields, seed = choices[0], {"seed": completions[0].seed}
    else:
        for choice, completion in zip(choices, completions, strict=True):
            choice["seed"] = completion.seed
        fields, seed = {"choices": choices}, {}
    usage = _usage(completions, same_prompt=True)
    return {"id": row.id, **fields, **_closing(usage, completions, model, timings), **seed}


def failure(row: Row | BadRow, failed: Failure) -> dict[str, Any]:
    """Return the output row of a row that failed."""
    if row.dialect != "bare":
        return openai_answers.failure(row, failed)
    return {"id": row.id, "error": _error(row, failed)}


def has_failed(output: Mapping[str, Any]) -> bool:
    """Whether an output row is an error or contains one."""
    if "custom_id" in output:
        return openai_answers.has_failed(output)
    return "error" in output or any("error" in one for one in output.get("answers", ()))


def first_error(output: Mapping[str, Any]) -> tuple[str, str]:
    """Return the type and the message of the first error in an output row that has failed."""
    if "custom_id" in output:
        return openai_answers.first_error(output)
    error = next(one["error"] for one in (output, *output.get("answers", ())) if "error" in one)
    return error["type"], error["message"]


def to_line(value: Mapping[str, Any]) -> str:
    """Return an output row as one line of JSON, without the newline.

    A row with lone surrogates is written in ASCII with escapes, because UTF-8 cannot encode them.
    """
    line = json.dumps(value, ensure_ascii=False)
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value)
    return line


def is_own_line(line: bytes) -> bool:
    """Whether a line, perhaps cut short by a kill or a power cut, is one that l4 writes."""
    if b"\0" in line:
        return True  # a power cut left a hole
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return not line.endswith(b"\n") and line.startswith(_BEGINNING[: len(line)])
    if not isinstance(value, dict) or next(iter(value), "") != "id":
        return False
    is_whole = any(names <= value.keys() for names in _ALWAYS)
    return is_whole and to_line(value).encode() == line.rstrip(b"\n")


def _document(
    row: Row, outcomes: Sequence[Outcome], model: str, timings: bool, tagged: Tagged
) -> dict[str, Any]:
    """Return one row for all questions; failed questions have an error instead of an answer."""
    assert row.document is not None
    replies = [
        {"id": f"{row.id}/{index}", "question": question, **_reply(row, outcome, tagged)}
        for index, (question, outcome) in enumerate(
            zip(row.document.questions, outcomes, strict=True)
        )
    ]
    completions = [outcome for outcome in outcomes if isinstance(outcome, Completion)]
    usage = _usage(completions, same_prompt=False)
    closing = _closing(usage, completions, model, timings)
    return {"id": row.id, "document": row.document.path, "answers": replies, **closing}


def _reply(row: Row, outcome: Outcome, tagged: Tagged) -> dict[str, Any]:
    if isinstance(outcome, Failure):
        return {"error": _error(row, outcome)}
    return {
        **_content(row, 0, _said(row, outcome, tagged)),
        "finish_reason": outcome.finish_reason,
        **_logprobs(outcome),
        **experts(outcome),
        "usage": _usage([outcome], same_prompt=True),
        "seed": outcome.seed,
    }


def _said(row: Row, completion: Completion, tagged: Tagged) -> Said:
    return said_in(completion, row.tools, tagged, row.most_calls)


def _content(row: Row, index: int, said: Said) -> dict[str, Any]:
    more: dict[str, Any] = {"reasoning_content": said.reasoning} if said.reasoning else {}
    if said.calls:
        more["tool_calls"] = answers.tool_calls(said.calls, openai_answers.call_id(row, index))
    if row.messages is not None:
        return {"text": said.text, "message": {"role": "assistant", "content": said.text, **more}}
    return {"text": said.text, **more}


def experts(completion: Completion) -> dict[str, Any]:
    """Return how often each expert was chosen for an answer, if that is known."""
    return {} if completion.experts is None else {"experts": openai_answers.experts(completion)}


def _logprobs(completion: Completion) -> dict[str, Any]:
    if not completion.logprobs:
        return {}
    return {"logprobs": answers.token_logprobs(completion.logprobs)}


def _closing(
    usage: Mapping[str, int], completions: Sequence[Completion], model: str, timings: bool
) -> dict[str, Any]:
    """Return the fields that end every answered row."""
    times = {
        "ttft": round(min(done.ttft for done in completions), 4),
        "seconds": round(max(done.seconds for done in completions), 4),
    }
    return {"usage": usage, **({"timings": times} if timings else {}), "model": model}


def _usage(completions: Sequence[Completion], *, same_prompt: bool) -> dict[str, int]:
    """Add up the tokens of several answers. With `same_prompt`, their prompt counts once."""
    prompts = completions[:1] if same_prompt else completions
    return {
        "prompt_tokens": sum(done.num_prompt_tokens for done in prompts),
        "cached_tokens": sum(done.num_cached_tokens for done in prompts),
        "completion_tokens": sum(done.num_completion_tokens for done in completions),
    }


def _error(row: Row | BadRow, failed: Failure) -> dict[str, Any]:
    return {"type": failed.type, "message": failed.message, "line": row.line, **failed.partial}


def _with_siblings(failed: Failure, outcomes: Sequence[Outcome]) -> Failure:
    """Return a row's first failure, with the texts of all its answers, so none of them is lost."""
    if len(outcomes) == 1:
        return failed
    texts = [
        one.text if isinstance(one, Completion) else one.partial.get("text", "") for one in outcomes
    ]
    partial = {"texts": texts} if any(texts) else {}
    return Failure(failed.type, failed.message, failed.is_refusal, partial)
