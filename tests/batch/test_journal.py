"""A batch output and its journal: resuming after kills, torn files and changed inputs."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from conftest import L4
from hypothesis import given, settings
from hypothesis import strategies as st

from l4cli.batch.journal import JournaledOutput
from l4cli.batch.rows import BadRow, Row, read_rows
from l4cli.errors import InputError, UsageError

SETTINGS = {"model": "m", "sampling": {"temperature": 0}}
LINES = [json.dumps({"prompt": f"row {n} 你"}).encode() for n in range(12)]
LINES[7] = LINES[6]  # duplicates are distinct rows


def write_rows(path: Path, count: int, lines: list[bytes] = LINES) -> None:
    """Start or resume a run over `lines` that ends after `count` rows."""
    with JournaledOutput(path, SETTINGS, resume=path.exists()) as out:
        for row in list(out.skip_done(read_rows(lines)))[:count]:
            out.write(f"answer to {row.line} 你", row.digest)


def whole(tmp_path: Path) -> bytes:
    path = tmp_path / "whole"
    write_rows(path, 99)
    return path.read_bytes()


def test_a_run_goes_on_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for count in (3, 1, 99):
        write_rows(path, count)
    assert path.read_bytes() == whole(tmp_path)
    write_rows(path, 99)  # nothing left to do
    assert path.read_bytes() == whole(tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 12), st.floats(0, 1), st.floats(0, 1))
def test_files_torn_anywhere_resume_to_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, count: int, out_cut: float, journal_cut: float
) -> None:
    """OUT and its journal are cut at independent places, as after a crash of the machine."""
    path = tmp_path_factory.mktemp("torn") / "out.jsonl"
    write_rows(path, count)
    journal = path.with_name("out.jsonl.journal")
    header = journal.read_bytes().index(b"\n") + 1
    for file, cut, least in ((path, out_cut, 0), (journal, journal_cut, header)):
        data = file.read_bytes()
        file.write_bytes(data[: max(least, int(len(data) * cut))])
    write_rows(path, 99)
    assert path.read_bytes() == whole(path.parent)


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("precious\n")
    for resume in (False, True):
        with pytest.raises(UsageError, match="already exists"):
            JournaledOutput(path, SETTINGS, resume=resume)
    assert path.read_text() == "precious\n"


def test_other_settings_are_refused_with_the_difference(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write_rows(path, 3)
    other = {**SETTINGS, "sampling": {"temperature": 1}}
    with pytest.raises(UsageError, match=r'sampling \{"temperature": 0\}, but now it is .* 1\}'):
        JournaledOutput(path, other, resume=True)


def test_a_long_setting_is_told_from_where_it_differs(tmp_path: Path) -> None:
    """A schema is longer than a message shows, and its beginning may be the same."""
    path, long = tmp_path / "out.jsonl", '{"type": "object", "properties": {' + '"a": 1, ' * 20
    before, now = (
        {**SETTINGS, "constraint": {"kind": "json_schema", "source": long + end}}
        for end in ('"mood": 1}}', '"tone": 1}}')
    )
    JournaledOutput(path, before, resume=False).close()
    said = r"with another --schema: at character 196 it had 'mood.*', but now it has 'tone.*': give"
    with pytest.raises(UsageError, match=said):
        JournaledOutput(path, now, resume=True)


def test_a_file_to_replace_is_whole_until_there_is_a_row_to_answer(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("precious\n")
    for lines in ([], LINES[:1]):
        assert path.read_text() == "precious\n"
        with JournaledOutput(path, SETTINGS, resume=False, overwrite=True) as out:
            for row in out.skip_done(read_rows(lines)):
                out.write("answer", row.digest)
    assert path.read_text() == "answer\n"
    write_rows(path, 3, LINES[:3])  # its journal is that of the new rows
    assert path.read_text().count("\n") == 3


@pytest.mark.parametrize(
    ("lines", "where"),
    [([*LINES[:1], b'{"prompt": "new"}', *LINES[2:]], "line 2"), (LINES[:2], "its end")],
)
def test_a_changed_input_is_refused(tmp_path: Path, lines: list[bytes], where: str) -> None:
    path = tmp_path / "out.jsonl"
    write_rows(path, 3)
    with pytest.raises(InputError, match=f"differs at {where}"):
        write_rows(path, 9, lines)


def test_two_runs_cannot_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with (
        JournaledOutput(path, SETTINGS, resume=False),
        pytest.raises(UsageError, match="another run is writing"),
    ):
        JournaledOutput(path, SETTINGS, resume=True)


def test_kill_9_at_random_moments_loses_and_doubles_nothing(
    l4: L4, tiny_gguf: Path, tmp_path: Path
) -> None:
    """The real command, killed and resumed five times, gives the rows of an undisturbed run."""
    prompts = tmp_path / "p.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"hello {n}"}) + "\n" for n in range(40)))
    options = [
        "-m",
        str(tiny_gguf),
        "-n",
        "4",
        "--temperature",
        "0",
        "--ctx",
        "2k",
        "--parallel",
        "2",
        "--threads",
        "1",
    ]
    command = [sys.executable, "-m", "l4cli", "run", str(prompts), *options]
    quiet, out = tmp_path / "quiet.jsonl", tmp_path / "out.jsonl"
    assert l4(*command[3:], "-o", quiet).returncode == 0
    moments = random.Random(4)
    for _ in range(5):
        process = subprocess.Popen(
            [*command, "-o", str(out), "--resume"], stderr=subprocess.DEVNULL
        )
        before = out.stat().st_size if out.exists() else 0
        while process.poll() is None and (not out.exists() or out.stat().st_size == before):
            time.sleep(0.005)
        time.sleep(moments.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = l4(*command[3:], "-o", out, "--resume")
    assert done.returncode == 0, done.stderr
    assert _rows(out) == _rows(quiet)


def _rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows without the values that depend on timing: timings and cached tokens."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        del row["usage"]["cached_tokens"], row["timings"]
    return rows


def test_a_journal_takes_17_bytes_a_row_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    lines = [b'{"prompt": "row %d"}' % n for n in range(20_000)]
    with JournaledOutput(path, SETTINGS, resume=False) as out:
        for row in out.skip_done(read_rows(lines)):
            out.write("x", row.digest)
    tracemalloc.start()
    with JournaledOutput(path, SETTINGS, resume=True) as out:
        held, _ = tracemalloc.get_traced_memory()
        assert out.num_done == 20_000
    tracemalloc.stop()
    assert held < 20_000 * 17 * 1.5  # arrays allocate more than they use


def test_resume_needs_a_file(l4: L4, tiny_gguf: Path) -> None:
    done = l4("run", "--resume", "-m", tiny_gguf, stdin='{"prompt": "a"}')
    assert (done.returncode, done.stdout) == (2, "")
    assert "name it with -o" in done.stderr


def test_rows_have_digests_of_their_own() -> None:
    rows: list[Row | BadRow] = list(read_rows([*LINES, b"{"]))
    assert len({row.digest for row in rows}) == len(rows)
