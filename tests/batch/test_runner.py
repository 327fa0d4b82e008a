"""The batch runner with a fake backend: order of rows, error rows, constant memory."""

from __future__ import annotations

import gc
import json
import random
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeBackend, FakeVocabulary

from l4cli.batch import runner
from l4cli.batch.dry_run import measure
from l4cli.batch.failed_rows import FailedRows
from l4cli.batch.ids import IdRegister
from l4cli.batch.meter import SpeedMeter
from l4cli.batch.rows import Row, read_rows
from l4cli.batch.runner import BatchOptions, run_rows
from l4cli.batch.stats import BatchStats, Progress, cost, summary
from l4cli.batch.verify import Sample
from l4cli.engine.types import CompileAbortedError, Request, SamplingParams
from l4cli.errors import RequestError
from l4cli.loading.llm import LLM
from l4cli.loading.vocabulary import VocabularyBackend
from l4cli.speeds import Speeds


def fake_llm(**backend: Any) -> LLM:
    return LLM("fake", FakeVocabulary(), FakeBackend(**backend))


def run(
    lines: list[bytes], llm: LLM | None = None, folder: Path = Path(), **options: Any
) -> list[dict[str, Any]]:
    options.setdefault("sampling", {"max_tokens": 50})
    rows = read_rows(lines, folder=folder)
    batch = run_rows(llm or fake_llm(), rows, BatchOptions(**options), BatchStats())
    return [output for _, output in batch]


def test_answers_come_in_input_order_whatever_their_length() -> None:
    prompts = ["a long one " * 4, "b", "something in between", "c"]
    rows = run([f'{{"prompt": "{prompt}"}}'.encode() for prompt in prompts])
    assert [row["id"] for row in rows] == [1, 2, 3, 4]
    assert [row["text"] for row in rows] == [prompt.upper() for prompt in prompts]


def test_messages_rows_are_answered_in_kind() -> None:
    (row,) = run([b'{"messages": [{"role": "user", "content": "hey"}]}'])
    assert row["message"] == {"role": "assistant", "content": "HEY"}
    assert row["text"] == "HEY"  # as in every row
    assert row["usage"]["completion_tokens"] == 3


def test_bad_rows_stand_where_they_came_and_harm_nobody() -> None:
    llm = fake_llm(n_ctx=100)
    rows = run(
        [b'{"prompt": "one"}', b"{", b'{"prompt": "%s"}' % (b"x" * 200), b'{"prompt": "two"}'], llm
    )
    assert [row.get("text") for row in rows] == ["ONE", None, None, "TWO"]
    assert rows[1]["error"]["type"] == "invalid_input"
    assert rows[1]["error"]["line"] == 2
    assert rows[2]["error"]["type"] == "context_overflow"
    assert "holds 100" in rows[2]["error"]["message"]


def test_settings_out_of_range_are_row_errors() -> None:
    rows = run([b'{"prompt": "a", "temperature": -1}', b'{"prompt": "b", "max_tokens": 0}'])
    assert [row["error"]["message"] for row in rows] == [
        "temperature must be between 0 and 100",
        "max_tokens must be at least 1",
    ]


def test_the_default_answer_length_yields_to_a_long_prompt() -> None:
    llm = fake_llm(n_ctx=120)
    (row,) = run([b'{"prompt": "%s"}' % (b"y" * 40)], llm, sampling={})
    assert row["text"] == "Y" * 40


def test_a_system_message_is_set_before_rows_that_have_none() -> None:
    llm = fake_llm()
    seen: list[str] = []
    llm.engine.backend.answer = lambda prompt: seen.append(prompt) or "x"  # type: ignore[attr-defined, func-returns-value]
    run(
        [
            b'{"prompt": "q"}',
            b'{"messages": [{"role": "system", "content": "own"},'
            b' {"role": "user", "content": "q"}]}',
        ],
        llm,
        system="be brief",
    )
    assert any("be brief" in prompt for prompt in seen)
    assert any("own" in prompt and "be brief" not in prompt for prompt in seen)


def test_a_file_of_bad_rows_ends() -> None:
    assert len(run([b"{"] * 5000, window=8)) == 5000


def test_rows_held_behind_a_slow_one_are_bounded() -> None:
    taken = 0

    def lines() -> Iterator[bytes]:
        nonlocal taken
        yield b'{"prompt": "%s"}' % (b"slow " * 30)
        for _ in range(2000):
            taken += 1
            yield b'{"prompt": "q"}'

    llm = fake_llm(n_ctx=2048)
    options = BatchOptions(sampling={"max_tokens": 200}, window=16)
    stream = run_rows(llm, read_rows(lines()), options, BatchStats())
    next(stream)
    assert taken < 40


def test_stopping_finishes_what_runs_and_reads_no_more() -> None:
    llm = fake_llm()
    stats = BatchStats()
    lines = [b'{"prompt": "row"}'] * 1000
    rows = []
    for _, output in run_rows(
        llm, read_rows(lines), BatchOptions(), stats, stopping=lambda: int(stats.num_rows >= 3)
    ):
        rows.append(output)
    assert 3 <= len(rows) < 30
    assert all(row["text"] == "ROW" for row in rows)


def test_a_row_whose_constraint_is_interrupted_is_left_for_the_next_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    llm, stops = fake_llm(), list[int]()
    sampler = llm.engine.backend.sampler

    def interrupted(params: SamplingParams, prompt: Sequence[int]) -> Any:
        if params.seed == 3:
            stops.append(1)
            raise CompileAbortedError
        return sampler(params, prompt)

    monkeypatch.setattr(llm.engine.backend, "sampler", interrupted)
    lines = [b'{"prompt": "row", "seed": %d}' % n for n in range(1, 6)]
    answered = run_rows(
        llm, read_rows(lines), BatchOptions(), BatchStats(), stopping=lambda: len(stops)
    )
    assert [(output["id"], output["text"]) for _, output in answered] == [(1, "ROW"), (2, "ROW")]
    assert llm.engine.num_unfinished == 0


@pytest.mark.slow
def test_memory_is_flat_over_many_rows() -> None:
    def lines() -> Iterator[bytes]:
        for _ in range(1500):
            yield b'{"prompt": "0123456789"}'

    llm = fake_llm(n_batch=512, n_seq_max=8)
    tracemalloc.start()
    held = []
    for n, _ in enumerate(run_rows(llm, read_rows(lines()), BatchOptions(), BatchStats())):
        if n % 500 == 499:
            llm.engine.backend.batch_sizes.clear()  # type: ignore[attr-defined]
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert held[-1] < held[0] + 25_000


def row(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def seeds_of(llm: LLM) -> list[int | None]:
    """Return a list that collects the seed of every sampler that is made."""
    seeds: list[int | None] = []
    make = llm.engine.backend.sampler

    def sampler(params: SamplingParams, prompt: Sequence[int]) -> Any:
        seeds.append(params.seed)
        return make(params, prompt)

    llm.engine.backend.sampler = sampler  # type: ignore[method-assign]
    return seeds


def test_rows_have_their_seed_and_times_unless_not_wanted() -> None:
    (first,) = run([row(prompt="a", seed=5, temperature=1)])
    assert first["seed"] == 5
    assert 0 <= first["timings"]["ttft"] <= first["timings"]["seconds"]
    (second,) = run([row(prompt="a")], sampling={"temperature": 0}, timings=False)
    assert "timings" not in second
    assert second["seed"] is None


def test_n_answers_share_a_prompt_and_have_seeds_of_their_own() -> None:
    llm = fake_llm(n_seq_max=2)
    seeds = seeds_of(llm)
    text = "a prompt long enough to be shared"
    rows = run([row(prompt=text, n=3, seed=2**32 - 3), row(prompt="b")], llm)
    choices = rows[0]["choices"]
    assert [choice["text"] for choice in choices] == [text.upper()] * 3
    assert [choice["seed"] for choice in choices] == [2**32 - 3, 2**32 - 2, 0]
    assert sorted(seeds[:3], key=str) == sorted([2**32 - 3, 2**32 - 2, 0], key=str)
    usage = rows[0]["usage"]
    assert usage["prompt_tokens"] == len(text) + 3  # BOS, newline and generation prompt
    assert usage["completion_tokens"] == 3 * len(text)
    assert llm.engine.backend.num_decoded_tokens < 5 * len(text)  # type: ignore[attr-defined]
    assert rows[1]["text"] == "B"


def test_n_answers_to_messages() -> None:
    (written,) = run([row(messages=[{"role": "user", "content": "x"}], n=2)])
    assert [choice["message"]["content"] for choice in written["choices"]] == ["X", "X"]


def test_a_document_is_computed_once_for_all_its_questions(tmp_path: Path) -> None:
    (tmp_path / "d.txt").write_text("once upon a time " * 20)
    llm = fake_llm(n_seq_max=2)
    lines = [row(id="d", document="d.txt", questions=["who", "when", "why"]), row(prompt="b")]
    rows = run(lines, llm, folder=tmp_path)
    answers = rows[0]["answers"]
    assert [(one["id"], one["question"], one["text"]) for one in answers] == [
        ("d/0", "who", "WHO"),
        ("d/1", "when", "WHEN"),
        ("d/2", "why", "WHY"),
    ]
    assert rows[0]["document"] == "d.txt"
    assert min(one["usage"]["cached_tokens"] for one in answers[1:]) > 340
    assert rows[0]["usage"]["completion_tokens"] == 10
    assert rows[1]["text"] == "B"


def test_a_question_too_long_fails_alone_and_a_document_too_long_as_a_whole(
    tmp_path: Path,
) -> None:
    (tmp_path / "short").write_text("short")
    (tmp_path / "long").write_text("long " * 500)
    lines = [
        row(document="short", questions=["q", "x" * 1000, "r"]),
        row(document="long", questions=["q", "r"]),
        row(prompt="b"),
    ]
    rows = run(lines, folder=tmp_path)
    answers = rows[0]["answers"]
    assert [one.get("text") for one in answers] == ["Q", None, "R"]
    assert answers[1]["error"]["type"] == "context_overflow"
    assert rows[1]["error"]["type"] == "context_overflow"
    assert rows[2]["text"] == "B"


def test_many_questions_are_asked_as_slots_come_free(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("text")
    llm = fake_llm(n_seq_max=2)
    most = 0
    step = llm.engine.step

    def counting() -> Any:
        nonlocal most
        most = max(most, llm.engine.num_unfinished)
        return step()

    llm.engine.step = counting  # type: ignore[method-assign]
    (written,) = run([row(document="d", questions=["q"] * 200)], llm, folder=tmp_path)
    assert len(written["answers"]) == 200
    assert most <= 4


def test_json_cut_short_is_an_error_row_with_what_there_was() -> None:
    schema = {"type": "json_object"}
    texts = {"cut": '{"a": "' + "x" * 99, "whole": '{"a": 1}', "stopped": '{"a": 1, END'}
    llm = fake_llm(answer=lambda prompt: texts[prompt.strip()])
    rows = run(
        [row(prompt=name, response_format=schema, stop="END") for name in texts]
        + [row(prompt="cut", regex="x"), row(prompt="cut", grammar="g"), row(prompt="cut")]
        + [row(prompt="cut", response_format=schema, max_tokens=9)],
        llm,
        sampling={"max_tokens": 12},
        limit_name="--max-tokens",
    )
    assert rows[0]["error"]["type"] == "incomplete_json"
    assert "cut off at 12 tokens" in rows[0]["error"]["message"]
    assert rows[0]["error"]["message"].endswith("complete: raise --max-tokens")
    assert rows[2]["error"]["message"].endswith(
        "ended at a stop string, before its JSON was complete: give another stop, or none"
    )
    assert rows[6]["error"]["message"].endswith("complete: raise the row's max_tokens")
    assert rows[0]["error"]["text"] == '{"a": "xxxxx'
    assert rows[1]["text"] == '{"a": 1}'
    assert rows[2]["error"]["type"] == "incomplete_json"
    assert [one["error"]["type"] for one in rows[3:5]] == ["incomplete_regex", "incomplete_grammar"]
    assert rows[5]["finish_reason"] == "length"


def test_one_of_n_that_fails_takes_no_text_with_it() -> None:
    llm = fake_llm(answer=lambda _prompt: '{"a": ')
    (written,) = run([row(prompt="p", n=2, response_format={"type": "json_object"})], llm)
    assert written["error"]["texts"] == ['{"a": ', '{"a": ']


def test_a_constraint_the_engine_cannot_keep_is_that_rows_error() -> None:
    llm = fake_llm()
    add = llm.engine.add_request

    def picky(request: Request) -> None:
        if request.params.constraint:
            raise RequestError("no grammar can say this schema: 'not' is not supported")
        add(request)

    llm.engine.add_request = picky  # type: ignore[method-assign]
    rows = run([row(prompt="a", response_format={"const": 1}), row(prompt="b")], llm)
    assert rows[0]["error"]["type"] == "invalid_request"
    assert "'not' is not supported" in rows[0]["error"]["message"]
    assert rows[1]["text"] == "B"


def test_calls_are_read_from_the_answers_of_rows_with_tools() -> None:
    llm = fake_llm(answer=lambda _prompt: '[f(x="y")]')
    tools = [{"type": "function", "function": {"name": "f"}}]
    user = [{"role": "user", "content": "q"}]
    with_tools, without = run([row(messages=user, tools=tools), row(messages=user)], llm)
    (call,) = with_tools["message"]["tool_calls"]
    assert call["function"] == {"name": "f", "arguments": '{"x": "y"}'}
    assert without["message"] == {"role": "assistant", "content": '[f(x="y")]'}


def test_bare_rows_and_envelopes_are_answered_in_kind_row_by_row() -> None:
    body = {"messages": [{"role": "user", "content": "b"}]}
    envelope = row(custom_id="c", method="POST", url="/v1/chat/completions", body=body)
    text = row(custom_id="t", method="POST", url="/v1/completions", body={"prompt": "raw\0"})
    rows = run([row(prompt="a"), envelope, text], fake_llm(), system="SYSTEM")
    assert rows[0]["text"] == "A"
    (choice,) = rows[1]["response"]["body"]["choices"]
    assert choice["message"]["content"] == "B"
    assert rows[2]["response"]["body"]["choices"][0]["text"] == "RAW"  # no template, no system


def test_control_token_text_in_a_prompt_stays_text() -> None:
    (written,) = run([row(prompt="a<|eot|>b")])
    assert written["text"] == "A<|EOT|>B"
    assert written["usage"]["prompt_tokens"] == len("a<|eot|>b") + 3


def test_unordered_rows_come_as_they_finish() -> None:
    lines = [row(prompt="a long one " * 4), row(prompt="b"), b"{", row(prompt="c")]
    rows = run(lines, unordered=True)
    assert [one["id"] for one in rows][-1] == 1
    assert sorted(one["id"] for one in rows) == [1, 2, 3, 4]


def test_a_row_that_takes_too_long_is_given_up_with_what_it_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    llm = fake_llm(n_seq_max=2, answer=lambda prompt: "endless" * 100 if "slow" in prompt else "ok")
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1

    monkeypatch.setattr(time, "monotonic", lambda: ticks)  # each step takes a second
    options = BatchOptions(sampling={"max_tokens": 500}, row_timeout=50)
    lines = [row(prompt="slow"), row(prompt="slow", n=3), *[row(prompt="quick")] * 5]
    batch = run_rows(llm, read_rows(lines), options, BatchStats(), on_step=tick)
    outputs = [output for _, output in batch]
    for output in outputs[:2]:
        assert output["error"]["type"] == "timeout"
        assert "--row-timeout of 50 s" in output["error"]["message"]
    assert outputs[0]["error"]["text"].startswith("endless")
    assert len(outputs[1]["error"]["texts"]) == 3
    assert [output.get("text") for output in outputs[2:]] == ["ok"] * 5
    assert ticks < 130
    assert llm.engine.num_unfinished == 0
    assert llm.engine.backend.num_open_samplers == 0  # type: ignore[attr-defined]


def test_a_sample_of_answers_is_the_same_alone() -> None:
    llm = fake_llm()
    sample = Sample(5, random.Random(1))
    lines = [row(prompt=f"row {n}", temperature=n % 2) for n in range(40)]
    rows = read_rows(lines)
    options = BatchOptions(sampling={"max_tokens": 50})
    list(run_rows(llm, rows, options, BatchStats(), on_answer=sample.offer))
    checked = list(sample.check(llm))
    assert len(checked) == 5
    assert all(one.is_same for one in checked)
    assert not all(one.line % 2 for one in checked)  # sampled answers have a seed, too
    llm.engine.backend.answer = lambda _prompt: "ROW oh"  # type: ignore[attr-defined]
    assert [one.first_difference for one in sample.check(llm)] == [4] * 5


def test_progress_and_summary_say_how_far_and_how_fast() -> None:
    stats = BatchStats(num_rows=10, failed=FailedRows(count=1))
    stats.num_prompt_tokens, stats.num_cached_tokens, stats.num_completion_tokens = 1000, 200, 400
    progress = Progress(stats, total=50, num_before=20)
    line = "30/50 rows · 1 error · prefill 200 tokens/s · decode 100 tokens/s · ETA 8.0 s"
    assert progress.line(4.0) == line
    stats.num_completion_tokens += 50
    assert "decode 5 tokens/s" in progress.line(14.0)  # the recent rate, not the average
    assert "ETA" not in Progress(stats).line(4.0)
    assert summary(stats, 100.0) == (
        "10 rows, 1 error · 1,000 prompt tokens (200 cached) · 450 generated, 4/s · 1:40 min"
    )
    stats.meter.add(8.0, 400, has_prefill=False)
    stats.meter.add(3.0, 50, has_prefill=True)  # one second of it decodes the 50 tokens
    assert " · prefill 400 tokens/s, decode 50 tokens/s · 1:40 min" in summary(stats, 100.0)
    assert cost(stats, 3600, 2.9) == (
        "cost 2.9: 6444 per million generated tokens, 2000 per million prompt and generated tokens"
    )


def test_steps_that_prefill_are_told_from_steps_that_decode() -> None:
    llm = fake_llm(n_batch=8, n_seq_max=2)
    stats = BatchStats()
    lines = [row(prompt="0123456789" * 4)] * 3
    list(run_rows(llm, read_rows(lines), BatchOptions(sampling={"max_tokens": 30}), stats))
    meter = stats.meter
    assert meter.num_decode_tokens + meter.num_mixed_decode_tokens == 3 * 30 - 3
    assert meter.num_mixed_decode_tokens > 0
    speeds = SpeedMeter(2.0, 100, 5.0, 50).speeds(200)
    assert speeds == Speeds(prefill_tps=50.0, decode_tps=50.0)
    assert speeds.seconds(100, 50) == 3.0
    assert SpeedMeter(2.0, 100, 0.5, 50).speeds(200) is None
    assert SpeedMeter().speeds(0) is None


def test_ids_that_rows_share_are_counted() -> None:
    ids = IdRegister()
    lines = [row(id="a", prompt="p"), row(id="b", prompt="p"), row(id="a", prompt="p")]
    rows = list(ids.watch(read_rows([*lines, row(id="a", prompt="q"), row(prompt="p")])))
    assert len(rows) == 5
    assert ids.shared() == (2, 3)
    assert IdRegister().shared() == (0, 0)


def test_a_dry_run_counts_what_the_run_would_use(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("document")
    lines = [
        row(prompt="x" * 10),
        row(prompt="x" * 20),
        b"{",
        row(prompt="x" * 2000),
        row(document="d", questions=["1", "2"], max_tokens=7),
        row(prompt="p", temperature=-1),
    ]
    llm = LLM("fake", FakeVocabulary(), VocabularyBackend(1024))
    rows = read_rows(lines, folder=tmp_path)
    report = measure(llm, rows, BatchOptions(sampling={"max_tokens": 50})).as_json()
    assert (report["rows"], report["prompts"]) == (6, 4)
    assert (report["bad_lines"], report["too_long_lines"]) == ([3, 6], [4])
    tokens = report["prompt_tokens"]
    assert (tokens["min"], tokens["max"], tokens["total"]) == (13, 23, 13 + 23 + 14 + 14)
    assert tokens["median"] == 14
    assert tokens["shared_with_the_one_before"] == 11 + 1 + 11
    assert report["answer_tokens_at_most"] == 50 + 50 + 7 + 7
    assert report["longest_prompt_and_answer"] == 73


def test_rows_that_take_long_to_prepare_do_not_hold_up_those_in_flight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(runner.time, "monotonic", lambda: now[0])
    read = []

    def slow_lines() -> Iterator[bytes]:
        for number in range(6):
            read.append(number)
            now[0] += 2.0
            yield b'{"prompt": "some words"}'

    llm = fake_llm(n_seq_max=8)
    options = BatchOptions(sampling={"max_tokens": 50}, look_ahead=1)
    answered = run_rows(llm, read_rows(slow_lines()), options, BatchStats())
    assert next(answered)[1]["text"] == "SOME WORDS"
    assert len(read) < 6
    assert len(list(answered)) == 5


def test_a_tall_terminal_gets_the_row_in_work_and_the_rate_of_the_last_seconds() -> None:
    stats = BatchStats()
    progress = Progress(stats)
    assert progress.below(0.5) == ("", "")
    said = b'[{"role": "user", "content": "two\\nwords"}]'
    row = next(read_rows([b'{"id": "a", "messages": %s}' % said]))
    assert isinstance(row, Row)
    stats.in_work = row
    for seconds in (1.0, 2.0, 3.0):
        stats.num_completion_tokens += 10
        below = progress.below(seconds)
    assert below == ("███ tokens/s", "row a: two words")
