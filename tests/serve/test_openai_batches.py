"""/v1/batches through OpenAI's own client: rows answered in the background, whatever happens."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from batch_client import CHAT, at_its_end, begin, line, rows, until
from conftest import GOLDEN
from fakes import EOG
from served import served
from tagged import Tags, tagged_llm

from l4cli.loading.llm import LLM

CHATML = Tags({"<|im_start|>": 258, "<|im_end|>": EOG}, ends=[])
QWEN = (GOLDEN / "families/qwen3.jinja").read_text("utf-8")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@contextmanager
def serving(llm: LLM, state: Path, **options: Any) -> Iterator[openai.OpenAI]:
    """A client of a server that keeps its batches in `state`."""
    with (
        served(llm, state=state, **options) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def test_a_batch_is_answered_as_its_requests_are(demo: LLM, state: Path) -> None:
    words = ["GGUF", "a token", "quantization"]
    with serving(demo, state) as client:
        batch = begin(client, *map(line, words), metadata={"for": "test"})
        assert (batch.status, batch.endpoint, batch.metadata) == (
            "validating",
            CHAT,
            {"for": "test"},
        )
        assert batch.expires_at == batch.created_at + 86400
        batch = at_its_end(client, batch)
        assert batch.status == "completed"
        assert batch.request_counts.model_dump() == {"completed": 3, "failed": 0, "total": 3}
        assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at
        assert batch.finalizing_at <= batch.completed_at
        assert batch.error_file_id is None
        assert batch.model == "demo:Q8_0"
        found = rows(client, batch.output_file_id)
        assert sorted(found) == sorted(words)
        for word in words:
            body = json.loads(line(word))["body"]
            alone = client.chat.completions.create(model="demo", **body)
            answer = openai.types.chat.ChatCompletion(**found[word]["response"]["body"])
            assert answer.choices[0].message.content == alone.choices[0].message.content
            assert answer.usage.total_tokens == alone.usage.total_tokens  # type: ignore[union-attr]
        listed = client.files.retrieve(batch.output_file_id)
        assert (listed.purpose, listed.filename) == ("batch_output", f"{batch.id}_output.jsonl")
        assert [one.id for one in client.batches.list()] == [batch.id]
        assert list((state / "batches").iterdir()) == [state / "batches" / f"{batch.id}.json"]


def test_texts_are_continued_too(tiny: LLM, state: Path) -> None:
    with serving(tiny, state) as client:
        url = "/v1/completions"
        batch = begin(client, line("a", url=url, prompt="Once"), endpoint=url)
        found = rows(client, at_its_end(client, batch).output_file_id)
        assert found["a"]["response"]["body"]["object"] == "text_completion"
        tokens = tiny.encoder.text("Once")
        lines = [line("ids", url=url, prompt=tokens), line("far", url=url, prompt=[10**6])]
        batch = at_its_end(client, begin(client, *lines, endpoint=url))
        ids = rows(client, batch.output_file_id)["ids"]["response"]["body"]
        assert ids["choices"] == found["a"]["response"]["body"]["choices"]
        (error,) = rows(client, batch.error_file_id).values()
        assert "the vocabulary of this model ends" in error["response"]["body"]["error"]["message"]


def test_metrics_tell_rows_from_clients_requests(tiny: LLM, state: Path) -> None:
    with serving(tiny, state) as client:
        at_its_end(client, begin(client, *map(line, "abc")))
        client.chat.completions.create(model="tiny", **json.loads(line("d"))["body"])
        text = httpx.get(str(client.base_url).replace("/v1/", "/metrics")).text
    for source, count in (("batch", 3), ("client", 1)):
        labels = f'model="{tiny.name}",source="{source}"'
        ended = re.findall(rf"l4_requests_finished_total{{{labels},reason=.*}} (\d+)", text)
        assert sum(map(int, ended)) == count
        assert f"l4_ttft_seconds_count{{{labels}}} {count}" in text


def test_a_row_thinks_as_it_says_or_fails(state: Path) -> None:
    prompts: list[str] = []

    def said(prompt: str) -> str:
        prompts.append(prompt)
        return "Fine."

    llm = tagged_llm(CHATML, QWEN, said)
    lines = [line("off", reasoning_effort="none"), line("low", reasoning_effort="low")]
    for lenient in (False, True):
        prompts.clear()
        with serving(llm, state, lenient=lenient) as client:
            batch = at_its_end(client, begin(client, *lines))
            assert batch.request_counts.failed == (not lenient)
            assert "off" in rows(client, batch.output_file_id)
            if not lenient:
                (error,) = rows(client, batch.error_file_id).values()
                message = error["response"]["body"]["error"]["message"]
                assert "reasoning_effort: the model's chat template does not know" in message
        assert [prompt.endswith("<think>\n\n</think>\n\n") for prompt in prompts] == (
            [True, False] if lenient else [True]
        )


def test_wrong_lines_are_in_the_error_file(tiny: LLM, state: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    wrong = {
        2: '{"custom_id": "broken',
        3: line("field", temprature=1),
        4: line("model", model="gpt-5"),
        5: line("url", url="/v1/completions", prompt="x"),
        6: json.dumps({"document": str(secret), "questions": ["What is it?"]}),
        7: line("long", messages=[{"role": "user", "content": "word " * 5000}]),
        8: line("bias", logit_bias={"9999999": 1}),
        9: line(17),
    }
    messages = [
        "not JSON",
        "unknown field 'temprature'",
        "model 'gpt-5' is not served here; served: tiny",
        f"url must be {CHAT}",
        "custom_id must be a string",
        r"the prompt has [0-9,]+ tokens",
        "logit_bias",
        "custom_id must be a string",
    ]
    with serving(tiny, state) as client:
        batch = at_its_end(client, begin(client, line("fine"), *wrong.values(), line("last")))
        assert batch.status == "completed"
        assert batch.request_counts.model_dump() == {"completed": 2, "failed": 8, "total": 10}
        assert sorted(rows(client, batch.output_file_id)) == ["fine", "last"]
        found = rows(client, batch.error_file_id)
        errors = sorted(
            one["response"]["body"]["error"]["message"]
            for one in found.values()
            if one["response"]["status_code"] == 400
        )
        assert len(errors) == len(messages)
        for error, (number, message) in zip(errors, zip(wrong, messages, strict=True), strict=True):
            assert error.startswith(f"line {number}: ")
            assert re.search(message, error), error
        assert "secret" not in client.files.content(batch.error_file_id).text


@pytest.mark.parametrize(
    ("lines", "code", "message"),
    [
        ([], "empty_file", "the input file is empty"),
        ([line("a"), line("b"), line("a")], "duplicate_custom_id", "custom_id must be unique"),
        ([line("a", model="gpt-5")], "invalid_request", "model 'gpt-5' is not served here"),
        (['{"prompt": "Hello"}', "[1"], "invalid_request", "custom_id must be"),
    ],
)
def test_an_input_without_a_right_request_fails(
    tiny: LLM, state: Path, lines: list[str], code: str, message: str
) -> None:
    with serving(tiny, state) as client:
        batch = at_its_end(client, begin(client, *lines))
        assert batch.status == "failed"
        assert batch.failed_at
        assert batch.errors.data[0].code == code
        assert message in batch.errors.data[0].message
        assert batch.errors.data[0].line == {"duplicate_custom_id": 3, "invalid_request": 1}.get(
            code
        )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"endpoint": "/v1/embeddings"}, "endpoint must be /v1/chat/completions or"),
        ({"completion_window": "soon"}, "completion_window must be a time such as"),
        ({"completion_window": "0h"}, "completion_window must be a time such as"),
        ({"completion_window": 24}, "completion_window must be a string"),
        ({"input_file_id": "file-" + "0" * 24}, "there is no file"),
        ({"metadata": {"a": 1}}, "metadata must be an object whose values are strings"),
        ({"metadata": {"a": "b" * 513}}, "metadata: a key may have 64 characters"),
        ({"extra_body": {"window": "24h"}}, "unknown field 'window'"),
    ],
)
def test_a_wrong_field_is_named(
    tiny: LLM, state: Path, changed: dict[str, Any], message: str
) -> None:
    with serving(tiny, state) as client:
        made = client.files.create(file=b"{}", purpose="batch")
        asked: Any = {"input_file_id": made.id, "endpoint": CHAT, "completion_window": "24h"}
        with pytest.raises(openai.BadRequestError, match=message):
            client.batches.create(**{**asked, **changed})
        with pytest.raises(openai.NotFoundError, match="there is no batch"):
            client.batches.retrieve("batch_x")
        assert client.batches.list().data == []


def test_a_cancelled_batch_keeps_what_was_answered(tiny: LLM, state: Path) -> None:
    with serving(tiny, state) as client:
        long = [line(str(number), max_tokens=100, ignore_eos=True) for number in range(100)]
        batch = begin(client, *long)
        batch = until(client, batch, lambda batch: batch.request_counts.completed)
        with pytest.raises(openai.ConflictError, match="cancel it first"):
            client.files.delete(batch.input_file_id)
        assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
        batch = at_its_end(client, batch)
        assert batch.status == "cancelled"
        answered = rows(client, batch.output_file_id)
        others = rows(client, batch.error_file_id)
        assert answered
        assert others
        assert sorted([*answered, *others], key=int) == [str(number) for number in range(100)]
        assert {one["error"]["code"] for one in others.values()} == {"batch_cancelled"}
        with pytest.raises(openai.ConflictError, match="is cancelled and cannot be cancelled"):
            client.batches.cancel(batch.id)
        assert client.files.delete(batch.input_file_id).deleted
        # Nothing of it runs on.
        done = client.chat.completions.create(model="tiny", **json.loads(line("x"))["body"])
        assert done.choices[0].finish_reason


def test_a_stopped_server_leaves_the_rest_to_the_next(tiny: LLM, state: Path) -> None:
    lines = [line(str(number), max_tokens=30, ignore_eos=True) for number in range(40)]
    with serving(tiny, state) as client:
        batch = begin(client, *lines)
        until(client, batch, lambda batch: batch.request_counts.completed)
    with serving(tiny, state) as client:
        again = client.batches.retrieve(batch.id)
        assert again.status in ("in_progress", "finalizing", "completed")
        batch = at_its_end(client, batch)
        assert batch.status == "completed"
        assert sorted(rows(client, batch.output_file_id), key=int) == [str(n) for n in range(40)]


def test_batches_are_answered_one_after_the_other(tiny: LLM, state: Path) -> None:
    with serving(tiny, state) as client:
        made = [begin(client, *(line(str(n), max_tokens=8) for n in range(10))) for _ in range(3)]
        ended = [at_its_end(client, batch) for batch in made]
        assert [batch.status for batch in ended] == ["completed"] * 3
        assert [one.id for one in client.batches.list(limit=2)] == [
            batch.id for batch in client.batches.list()
        ]
        assert len({one.id for one in client.batches.list()}) == 3


def test_a_batch_waits_for_its_model_up_to_its_end(
    tiny: LLM, demo: LLM, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line(str(number), max_tokens=30, ignore_eos=True) for number in range(40)]
    with serving(tiny, state) as client:
        batch = begin(client, *lines, completion_window="1h")
        until(client, batch, lambda batch: batch.request_counts.completed)
    with serving(demo, state) as client:
        assert client.batches.retrieve(batch.id).status == "in_progress"
        done = at_its_end(client, begin(client, line("GGUF")))  # others go on meanwhile
        assert done.status == "completed"
        now = time.time() + 3601
        monkeypatch.setattr(time, "time", lambda: now)
        batch = at_its_end(client, batch)
        assert batch.status == "expired"
        answered = rows(client, batch.output_file_id)
        others = rows(client, batch.error_file_id)
        assert batch.request_counts.completed == len(answered) > 0
        assert sorted([*answered, *others], key=int) == [str(number) for number in range(40)]
        assert {one["error"]["code"] for one in others.values()} == {"batch_expired"}


def test_a_client_does_not_wait_behind_a_batch(tiny: LLM, state: Path) -> None:
    with serving(tiny, state) as client:
        slots = client.models.list().data[0].model_extra["parallel"]  # type: ignore[index]
        batch = begin(client, *(line(str(n), max_tokens=30, ignore_eos=True) for n in range(100)))
        until(client, batch, lambda batch: batch.request_counts.completed)
        before = client.batches.retrieve(batch.id).request_counts.completed
        client.chat.completions.create(model="tiny", **json.loads(line("x"))["body"])
        after = client.batches.retrieve(batch.id).request_counts.completed
        assert after - before <= 2 * slots
        client.batches.cancel(batch.id)
        at_its_end(client, batch)


def fill(path: Path) -> None:
    """Take all space that a small file system has left."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1024))


def test_a_full_disk_is_waited_for(
    tiny: LLM, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l4cli.serve.batches.working.RETRY", 0.05)
    lines = [line(str(number)) for number in range(60)]
    with serving(tiny, mounted / "serve") as client:
        filler = mounted / "filler"
        batch = begin(client, *lines)
        until(client, batch, lambda batch: batch.status == "in_progress")
        fill(filler)
        time.sleep(0.3)
        assert client.batches.retrieve(batch.id).status == "in_progress"
        filler.unlink()
        batch = at_its_end(client, batch)
        assert batch.status == "completed"
        assert len(rows(client, batch.output_file_id)) == 60


def test_no_thread_is_left(tiny: LLM, state: Path) -> None:
    with serving(tiny, state) as client:
        at_its_end(client, begin(client, line("a")))
        begin(client, *(line(str(n), max_tokens=100) for n in range(50)))
    assert not [one.name for one in threading.enumerate() if one.name.startswith("l4-batch")]
