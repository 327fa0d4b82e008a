"""Values at the edges of what numbers can be: each row is answered or is an error row."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import constraints
import pytest
import values

_MEMBERS = int(os.environ.get("L4_MEMBERS", "120"))


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@pytest.mark.slow
def test_no_value_of_a_field_ends_the_run(
    l4: Callable[..., CompletedProcess[str]], tiny_gguf: Path, tmp_path: Path
) -> None:
    single = random.Random(1).sample(list(values.single()), 60)
    rows = [*single, *values.several(seed=2, count=_MEMBERS), '{"prompt": "last", "id": "last"}']
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    done = l4("run", tmp_path / "rows.jsonl", "-m", tiny_gguf, "-n", "3")
    written = [json.loads(line, parse_constant=_refuse) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert len(written) == len(rows)
    assert "usage" in written[-1]
    assert all(("error" in row) != ("usage" in row) for row in written)


IMPOSSIBLE: tuple[tuple[dict[str, Any], str], ...] = (
    ({"logit_bias": {"4294967297": 1}}, "logit_bias has the token 4294967297, but the"),
    ({"logit_bias": {"9" * 5000: 1}}, "logit_bias has the token 99999999999999999999… of 5000"),
    ({"logit_bias": {"5": 10**400}}, "must be between -100 and 100, unlike that of token 5"),
    (
        {"response_format": {"type": "json_schema", "schema": {"maximum": float("inf")}}},
        "a JSON schema must not hold a number too large to read",
    ),
    ({"max_tokens": 2**31 - 1, "repetition_penalty": 2}, "lower max_tokens or raise --ctx"),
)


def test_impossible_values_are_named(
    l4: Callable[..., CompletedProcess[str]], tiny_gguf: Path, tmp_path: Path
) -> None:
    rows = [json.dumps({"prompt": "x", **fields}) for fields, _ in IMPOSSIBLE]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows).replace("Infinity", "1e999"))
    done = l4("run", tmp_path / "rows.jsonl", "-m", tiny_gguf, "-n", "3")
    written = [json.loads(line) for line in done.stdout.splitlines()]
    for row, (_, message) in zip(written, IMPOSSIBLE, strict=True):
        assert message in row["error"]["message"]


@pytest.mark.slow
def test_no_constraint_ends_the_run(
    l4: Callable[..., CompletedProcess[str]], tiny_gguf: Path, tmp_path: Path
) -> None:
    rows = [*constraints.rows(seed=3, count=_MEMBERS // 15), '{"prompt": "last", "id": "last"}']
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    done = l4("run", tmp_path / "rows.jsonl", "-m", tiny_gguf, "-n", "3", timeout=900)
    written = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(written) == len(rows)
    assert "usage" in written[-1]


def test_deep_nesting_costs_its_row_only(
    l4: Callable[..., CompletedProcess[str]], tiny_gguf: Path, tmp_path: Path
) -> None:
    lines = []
    for levels in (250, 600, 980, 5000):
        deep = '{"a": ' * levels + "1" + "}" * levels
        lines += [
            f'{{"tools": [{{"function": {{"name": "f", "parameters": {deep}}}}}], "prompt": "x"}}',
            f'{{"messages": [{{"role": "user", "content": "x", "extra": {deep}}}]}}',
            f'{{"response_format": {{"type": "json_schema", "schema": {deep}}}, "prompt": "x"}}',
        ]
    good = '{"prompt": "x"}'
    (tmp_path / "rows.jsonl").write_text("".join(f"{line}\n{good}\n" for line in lines))
    done = l4("run", tmp_path / "rows.jsonl", "-m", tiny_gguf, "-n", "3")
    written = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(written) == 2 * len(lines)
    for bad in written[::2]:
        assert "nested too deeply (more than 200 levels)" in bad["error"]["message"]
    assert all("usage" in row for row in written[1::2])


def test_as_deep_as_is_allowed_is_answered(
    l4: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    deep = '{"a": ' * 190 + "1" + "}" * 190
    call = json.dumps({"function": {"name": "f", "arguments": deep}})
    message = f'{{"role": "assistant", "content": "x", "tool_calls": [{call}]}}'
    (tmp_path / "rows.jsonl").write_text(
        f'{{"messages": [{message}], "tools": [{{"name": "f", "parameters": {deep}}}]}}\n'
    )
    done = l4("run", tmp_path / "rows.jsonl", "-m", "demo", "-n", "3")
    assert "usage" in json.loads(done.stdout)


@pytest.mark.parametrize("option", [("--threads", "100000"), ("--store-limit", "9" * 400)])
def test_an_impossible_option_is_a_usage_error(
    l4: Callable[..., CompletedProcess[str]], option: tuple[str, str]
) -> None:
    done = l4("run", "-", *option)
    assert done.returncode == 2
    assert "see `l4 run --help`" in done.stderr
