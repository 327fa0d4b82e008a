"""Every row of any input has exactly one output row, in order, whatever it holds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from conftest import L4
from odd_rows import make

SEEDS = int(os.environ.get("L4_MEMBERS", "6"))  # inputs; more by hand
ROWS = 40  # of each


@pytest.mark.parametrize("seed", range(SEEDS))
def test_each_row_has_its_answer(l4: L4, tmp_path: Path, tiny_gguf: Path, seed: int) -> None:
    given = make(seed, ROWS)
    file = tmp_path / "rows"
    file.write_bytes(given.data)
    (tmp_path / "notes.md").write_text("The lamp is green.")
    model = os.environ.get("L4_MEMBERS_MODEL", str(tiny_gguf))
    options = ("-m", model, "--ctx", "1024", "--max-tokens", "2", "--threads", "1")
    done = l4("run", file, *given.options, *options)
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    assert "bug in l4" not in done.stderr + done.stdout
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    found = [str(answer.get("custom_id", answer.get("id"))) for answer in answers]
    expected = [ours or theirs for ours, theirs in zip(given.ids, found, strict=True)]
    assert found == expected
    assert all("error" in answer or len(answer) > 2 for answer in answers)
