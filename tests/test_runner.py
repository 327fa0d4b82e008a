"""The batch runner over a fake backend: order, errors as rows, flat memory."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from typing import Any

from fakes import FakeBackend, FakeVocabulary

from l4cli.batch.rows import read_rows
from l4cli.batch.runner import BatchOptions, run_rows
from l4cli.batch.stats import BatchStats
from l4cli.llm import LLM


def fake_llm(**backend: Any) -> LLM:
    return LLM("fake", FakeVocabulary(), FakeBackend(**backend))


def run(lines: list[bytes], llm: LLM | None = None, **options: Any) -> list[dict[str, Any]]:
    options.setdefault("sampling", {"max_tokens": 50})
    batch = run_rows(llm or fake_llm(), read_rows(lines), BatchOptions(**options), BatchStats())
    return [output for _, output in batch]


def test_answers_come_in_input_order_whatever_their_length() -> None:
    prompts = ["a long one " * 4, "b", "something in between", "c"]
    rows = run([f'{{"prompt": "{prompt}"}}'.encode() for prompt in prompts])
    assert [row["id"] for row in rows] == [1, 2, 3, 4]
    assert [row["text"] for row in rows] == [prompt.upper() for prompt in prompts]


def test_messages_rows_are_answered_in_kind() -> None:
    (row,) = run([b'{"messages": [{"role": "user", "content": "hey"}]}'])
    assert row["message"] == {"role": "assistant", "content": "HEY"}
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


def test_memory_is_flat_over_many_rows() -> None:
    def lines() -> Iterator[bytes]:
        for _ in range(3000):
            yield b'{"prompt": "0123456789"}'

    llm = fake_llm(n_batch=512, n_seq_max=8)
    tracemalloc.start()
    held = []
    for n, _ in enumerate(run_rows(llm, read_rows(lines()), BatchOptions(), BatchStats())):
        if n % 1000 == 999:
            llm.engine.backend.batch_sizes.clear()  # type: ignore[attr-defined]
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert held[-1] < held[0] + 50_000
