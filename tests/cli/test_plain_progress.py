"""Progress on a terminal that cannot move its cursor: a line now and then."""

from __future__ import annotations

import pytest

from l4cli.console import plain_progress
from l4cli.console.plain_progress import PlainProgress


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the clock shows; stderr is a terminal."""
    monkeypatch.setattr(plain_progress, "has_progress", lambda: True)
    return [0.0]


def test_numbers_are_renewed_now_and_then_and_something_else_is_told_at_once(
    now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    plain = PlainProgress(lambda: now[0])
    for tenth in range(250):
        now[0] = tenth / 10
        plain.tell(f"{tenth} of 999 rows" if tenth < 240 else f"finishing; {tenth} of 999 rows")
    assert capsys.readouterr().err.splitlines() == [
        "10 of 999 rows",
        "110 of 999 rows",
        "210 of 999 rows",
        "finishing; 240 of 999 rows",
    ]


def test_short_work_writes_nothing(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    plain = PlainProgress(lambda: now[0])
    for label in ("reading", "loading", "computing"):
        now[0] += 0.3
        plain.tell(label)
    assert capsys.readouterr().err == ""


def test_what_is_no_terminal_gets_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    plain = PlainProgress(lambda: 0.0)
    plain.tell_now("stopping …")
    assert capsys.readouterr().err == ""
