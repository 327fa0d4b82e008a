"""--retry-errors: error rows run again, and OUT stays complete if the retry is interrupted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from l4cli.batch.journal import JournaledOutput
from l4cli.batch.retry import RetriedOutput, open_journaled
from l4cli.batch.rows import read_rows
from l4cli.errors import InputError, UsageError

SETTINGS = {"model": "m"}
LINES = [json.dumps({"prompt": f"row {n}"}).encode() for n in range(10)]
FAILED = (2, 5, 6)  # line numbers


def write_rows(
    path: Path,
    count: int = 99,
    *,
    failing: tuple[int, ...] = (),
    lines: list[bytes] = LINES,
    **options: bool,
) -> list[int]:
    """Run until `count` rows are written; finish if those were all. Return the lines answered."""
    answered = []
    options = {"resume": path.exists(), **options}
    with open_journaled(path, SETTINGS, **options) as out:  # type: ignore[arg-type]
        rows = list(out.skip_done(read_rows(lines)))
        if options.get("unordered"):
            rows.reverse()
        for row in rows[:count]:
            failed = row.line in failing
            text = "error" if failed else f"answer to {row.line}"
            out.write(f"{row.line}: {text}", row.digest, failed=failed)
            answered.append(row.line)
        if count >= len(rows):
            out.finish()
    return answered


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


def whole() -> list[str]:
    return [f"{n}: answer to {n}" for n in range(1, len(LINES) + 1)]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_only_error_rows_are_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write_rows(path, failing=FAILED)
    assert write_rows(path, retry_errors=True) == list(FAILED)
    assert lines_of(path) == whole()
    assert files(tmp_path) == ["out", "out.journal"]
    assert write_rows(path) == []  # and it can be resumed as ever


def test_rows_that_are_missing_are_answered_too(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write_rows(path, 7, failing=FAILED)
    assert write_rows(path, retry_errors=True) == [*FAILED, 8, 9, 10]
    assert lines_of(path) == whole()


def test_a_row_may_fail_again(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write_rows(path, failing=FAILED)
    assert write_rows(path, retry_errors=True, failing=(5,)) == list(FAILED)
    assert lines_of(path)[4] == "5: error"
    assert write_rows(path, retry_errors=True) == [5]
    assert lines_of(path) == whole()


def test_without_an_earlier_run_it_is_an_ordinary_one(tmp_path: Path) -> None:
    assert len(write_rows(tmp_path / "out", retry_errors=True)) == len(LINES)
    assert lines_of(tmp_path / "out") == whole()


def test_a_line_that_failed_may_be_mended(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write_rows(path, failing=FAILED)
    mended = [*LINES[:4], b'{"prompt": "mended"}', *LINES[5:]]
    assert write_rows(path, retry_errors=True, lines=mended) == list(FAILED)
    assert lines_of(path) == whole()
    with pytest.raises(InputError, match="differs at line 5"):
        write_rows(path, lines=LINES)  # the journal now has the digest of the mended line


@pytest.mark.parametrize(
    ("lines", "where"),
    [([b'{"prompt": "new"}', *LINES[1:]], "line 1"), (LINES[:8], "its end")],
)
def test_a_line_that_was_answered_may_not_change(
    tmp_path: Path, lines: list[bytes], where: str
) -> None:
    path = tmp_path / "out"
    write_rows(path, failing=FAILED)
    before = path.read_bytes()
    with pytest.raises(InputError, match=f"differs at {where}"):
        write_rows(path, retry_errors=True, lines=lines)
    assert path.read_bytes() == before


def test_other_settings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write_rows(path, failing=FAILED)
    with pytest.raises(UsageError, match='started with model "m", but now it is "other"'):
        RetriedOutput(path, {"model": "other"}, unordered=False)


@pytest.mark.parametrize("unordered", [False, True])
def test_a_retry_may_change_what_only_limits_rows(tmp_path: Path, unordered: bool) -> None:
    """The message of a row that was cut off asks for more tokens; answered rows stay."""
    path = tmp_path / "out"
    with open_journaled(path, SETTINGS, resume=False, unordered=unordered) as out:
        for row in out.skip_done(read_rows(LINES)):
            out.write(f"{row.line}: old", row.digest, failed=row.line in FAILED)
    larger = {**SETTINGS, "--max-tokens": 2000, "--row-timeout": 9}
    for limit, num_asked in ((2000, 1), (3000, 2)):  # the first retry is interrupted
        now = {**larger, "--max-tokens": limit}
        retry = open_journaled(path, now, resume=False, retry_errors=True, unordered=unordered)
        with retry as out:
            assert isinstance(out, RetriedOutput)
            assert f"without --max-tokens, but now it is {limit}" in out.changed
            rows = list(out.skip_done(read_rows(LINES)))
            for row in rows[:num_asked]:
                out.write(f"{row.line}: new", row.digest)
            if len(rows) == num_asked:
                out.finish()
    said = {line.split(": ")[0]: line.split(": ")[1] for line in lines_of(path)}
    assert {int(n) for n, text in said.items() if text == "new"} == set(FAILED)
    assert len(said) == len(LINES)
    with pytest.raises(UsageError, match="--retry-errors takes it for the error rows"):
        open_journaled(path, {**larger, "--max-tokens": 1}, resume=True, unordered=unordered)


def test_a_retry_and_a_run_cannot_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write_rows(path, failing=FAILED)
    with (
        JournaledOutput(path, SETTINGS, resume=True),
        pytest.raises(UsageError, match="another run is writing"),
    ):
        RetriedOutput(path, SETTINGS, unordered=False)


@pytest.mark.parametrize("unordered", [False, True])
@pytest.mark.parametrize("done_before", [7, 10])
def test_a_retry_stopped_anywhere_goes_on(
    tmp_path: Path, done_before: int, unordered: bool
) -> None:
    for count in range(7):
        path = tmp_path / str(count) / "out"
        path.parent.mkdir()
        write_rows(path, done_before, failing=FAILED, unordered=unordered)
        before = path.read_bytes()
        first = write_rows(path, count, retry_errors=True, unordered=unordered)
        if (path.parent / "out.retry").exists():
            assert path.read_bytes() == before  # OUT is unchanged until the end
            with pytest.raises(UsageError, match="interrupted: continue it with --retry-errors"):
                write_rows(path, unordered=unordered)
            rest = write_rows(path, retry_errors=True, unordered=unordered)
            assert not set(first) & set(rest)
        assert sorted(lines_of(path), key=lambda line: int(line.split(":")[0])) == whole()
        if not unordered:
            assert lines_of(path) == whole()


def test_a_kill_at_any_moment_of_the_end_costs_nothing(tmp_path: Path) -> None:
    """Retries from each state that the folder has during the last steps of a retry."""
    path = tmp_path / "out"
    write_rows(path, failing=FAILED)
    states = list(_states_of_finish(path, tmp_path))
    assert len(states) == 3
    for state in states:
        write_rows(state / "out", retry_errors=True)
        assert lines_of(state / "out") == whole()
        assert files(state) == ["out", "out.journal"]


def _states_of_finish(path: Path, folder: Path) -> Iterator[Path]:
    """Yield copies of the folder before the renames, between them and after them."""

    def copy(name: str) -> Path:
        target = folder / name
        target.mkdir()
        for file in folder.glob("out*"):
            shutil.copy(file, target)
        return target

    write_rows(path, 2, retry_errors=True)  # all but the last error row
    with RetriedOutput(path, SETTINGS, unordered=False) as out:
        for row in out.skip_done(read_rows(LINES)):
            out.write(f"{row.line}: answer to {row.line}", row.digest)
        yield copy("before")
        replace = Path.replace
        renamed: list[Any] = []

        def stop_after_one(self: Path, target: Path) -> Path:
            renamed.append(replace(self, target))
            if len(renamed) == 1:
                renamed.append(copy("between"))
            return target

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "replace", stop_after_one)
            out.finish()
        yield renamed[1]
    yield copy("after")


def test_what_an_interrupted_retry_has_asked_counts_as_done(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write_rows(path, 3, failing=(1, 2, 3))
    with RetriedOutput(path, SETTINGS, unordered=False) as out:
        assert out.num_done == 0
        for row in out.skip_done(read_rows(LINES)):
            out.write("x", row.digest, failed=row.line == 4)
    with RetriedOutput(path, SETTINGS, unordered=False) as out:  # killed just before its end
        assert (out.num_done, out.num_failed) == (len(LINES), 1)
        assert list(out.skip_done(read_rows(LINES))) == []
        out.finish()
    assert len(lines_of(path)) == len(LINES)


def test_unordered_rows_are_told_by_their_content(tmp_path: Path) -> None:
    path = tmp_path / "out"
    assert write_rows(path, 4, unordered=True) == [10, 9, 8, 7]
    assert write_rows(path, unordered=True) == [6, 5, 4, 3, 2, 1]
    assert sorted(lines_of(path)) == sorted(whole())
    changed = [*LINES[:9], b'{"prompt": "new"}']
    with pytest.raises(InputError, match="1 of the rows answered there are no longer in"):
        write_rows(path, unordered=True, lines=changed)
