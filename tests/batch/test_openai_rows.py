"""OpenAI's Batch format: reading requests as its clients write them, and writing the answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from l4cli.batch.outcomes import Failure
from l4cli.batch.outputs import failure, has_failed, output
from l4cli.batch.rows import BadRow, Row, read_rows
from l4cli.engine.types import Completion, Constraint, TokenLogprob

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def envelope(url: str = CHAT, **body: Any) -> dict[str, Any]:
    if url == CHAT:
        body = {"messages": [USER], **body}
    return {"custom_id": "c-1", "method": "POST", "url": url, "body": body}


def read_one(value: dict[str, Any], **options: Any) -> Row | BadRow:
    (row,) = read_rows([json.dumps(value).encode()], **options)
    return row


def valid(url: str = CHAT, **body: Any) -> Row:
    row = read_one(envelope(url, **body))
    assert isinstance(row, Row), row.error
    return row


def completion(text: str = "hello", **fields: Any) -> Completion:
    return Completion("0/0", text, (1, 2), "stop", 10, 4, 2, 0.1, 0.2, **fields)


def test_a_chat_request_is_read_with_openais_names() -> None:
    row = valid(
        model="gpt-4o-mini",
        user="me",
        metadata={"k": "v"},
        stream=False,
        max_completion_tokens=9,
        temperature=0,
        n=2,
        logprobs=True,
        top_logprobs=2,
        tools=[TOOL],
        response_format={"type": "json_object"},
        top_k=5,
    )
    assert (row.id, row.dialect, row.n) == ("c-1", "chat", 2)
    assert row.messages == (USER,)
    assert row.tools == (TOOL,)
    assert row.sampling == {
        "max_tokens": 9,
        "temperature": 0,
        "logprobs": 2,
        "constraint": Constraint("json_object"),
        "top_k": 5,
    }


def test_a_completions_request_is_a_text_to_continue() -> None:
    for prompt in ("Once upon", ["Once upon"]):
        row = valid(TEXT, prompt=prompt, echo=False, best_of=1, logprobs=1)
        assert (row.prompt, row.dialect, row.sampling) == (
            "Once upon",
            "completions",
            {"logprobs": 1},
        )
    for ids in ([1, 2], [[1, 2]]):
        row = valid(TEXT, prompt=ids)
        assert (row.prompt, row.first_words) == ((1, 2), "2 token ids")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (envelope(stream=True), "stream: true is not supported"),
        (envelope(messages=[]), "messages is empty"),
        (envelope(max_tokens=3, max_completion_tokens=4), "max_tokens and max_completion_tokens"),
        (envelope(max_completion_tokens="4"), "max_tokens must be an integer"),
        (envelope(plugins=[]), "unknown field 'plugins' (--lenient ignores it)"),
        (envelope(tool_choice={"type": "function"}), "tool_choice must be"),
        (envelope(tool_choice="required"), "requires a call, but there are no tools"),
        (envelope(TEXT, prompt=["a", "b"]), "prompt must be one text, not a list of 2"),
        (envelope(TEXT, prompt=[[1], [2]]), "prompt must be one text"),
        (envelope(TEXT), "prompt must be a string, not null"),
        (envelope(TEXT, prompt="a", echo=True), "echo is not supported"),
        (envelope("/v1/embeddings"), "url must be /v1/chat/completions or /v1/completions"),
        ({**envelope(), "url": ["x"]}, "url must be"),
        ({**envelope(), "method": "GET"}, "method must be POST"),
        ({**envelope(), "custom_id": 5}, "custom_id must be a string"),
        ({**envelope(), "body": "x"}, "body must be an object, not a string"),
        ({**envelope(), "extra": 1}, "unknown field 'extra'"),
        ({"custom_id": "c-1"}, "url must be"),
    ],
)
def test_bad_requests_are_answered_in_kind(value: dict[str, Any], message: str) -> None:
    row = read_one(value)
    assert isinstance(row, BadRow)
    written = failure(row, Failure("invalid_input", str(row.error), is_refusal=True))
    assert has_failed(written)
    assert written["custom_id"] == value["custom_id"]
    assert written["error"] is None
    assert written["response"]["status_code"] == 400
    error = written["response"]["body"]["error"]
    assert message in error["message"]
    assert error["message"].startswith("line 1: ")
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_input")


def test_lenient_ignores_unknown_fields_of_a_body() -> None:
    assert isinstance(read_one(envelope(plugins=[]), lenient=True), Row)


def test_a_chat_answer() -> None:
    row = valid(n=2)
    written = output(row, [completion(), completion("bye")], "m")
    assert not has_failed(written)
    body = written["response"].pop("body")
    hex = row.digest.hex()
    assert written == {
        "id": f"batch_req_{hex}",
        "custom_id": "c-1",
        "response": {"status_code": 200, "request_id": f"req_{hex}"},
        "error": None,
    }
    assert body.pop("created") > 1_700_000_000
    assert body == {
        "id": f"chatcmpl-{hex}",
        "object": "chat.completion",
        "model": "m",
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
                "logprobs": None,
            }
            for index, text in enumerate(("hello", "bye"))
        ],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 4,
            "total_tokens": 14,
            "prompt_tokens_details": {"cached_tokens": 4},
        },
    }


def test_calls_are_answered_as_tool_calls() -> None:
    written = output(valid(tools=[TOOL]), [completion('[f(x="é")]')], "m")
    (choice,) = written["response"]["body"]["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    assert (call["type"], call["function"]) == (
        "function",
        {"name": "f", "arguments": '{"x": "é"}'},
    )


@pytest.mark.parametrize("value", ["NaN", "1e999", "[1, -1e999]"])
def test_a_call_that_json_cannot_hold_stays_text(value: str) -> None:
    text = f'{{"name": "f", "parameters": {{"x": {value}}}}}'
    (choice,) = output(valid(tools=[TOOL]), [completion(text)], "m")["response"]["body"]["choices"]
    assert choice["message"]["content"] == text
    assert "tool_calls" not in choice["message"]


def test_without_tools_an_answer_that_looks_like_a_call_is_text() -> None:
    (choice,) = output(valid(), [completion("[f(x=1)]")], "m")["response"]["body"]["choices"]
    assert choice["message"]["content"] == "[f(x=1)]"


LOGPROBS = (
    TokenLogprob(7, b"h\xc3", -0.5, ((7, b"h\xc3", -0.5), (9, b"x", -2.0))),
    TokenLogprob(8, b"\xa9", -0.25),
)


def test_logprobs_in_both_forms() -> None:
    done = completion(logprobs=LOGPROBS)
    (chat,) = output(valid(), [done], "m")["response"]["body"]["choices"]
    first, second = chat["logprobs"]["content"]
    assert first["token"] == "h\ufffd"
    assert (first["bytes"], first["logprob"]) == ([0x68, 0xC3], -0.5)
    assert [top["logprob"] for top in first["top_logprobs"]] == [-0.5, -2.0]
    assert second["top_logprobs"] == []
    row = valid(TEXT, prompt="p")
    (text,) = output(row, [done], "m")["response"]["body"]["choices"]
    assert text["logprobs"]["token_logprobs"] == [-0.5, -0.25]
    assert text["logprobs"]["text_offset"] == [0, 2]
    assert text["logprobs"]["top_logprobs"][0] == {"h\ufffd": -0.5, "x": -2.0}


def test_what_failed_on_the_way_is_an_error_beside_no_response() -> None:
    row = valid()
    written = output(row, [Failure("timeout", "too slow", partial={"text": "half"})], "m")
    assert written["response"] is None
    assert written["error"] == {"code": "timeout", "message": "line 1: too slow", "text": "half"}
    broken = output(row, [Failure("engine", "llama.cpp failed")], "m")
    assert broken["response"]["status_code"] == 500
    assert broken["response"]["body"]["error"]["type"] == "server_error"


def test_without_timings_the_same_answer_is_the_same_line() -> None:
    written = output(valid(), [completion()], "m", timings=False)
    assert written["response"]["body"]["created"] == 0
