"""Ctrl-C while a progress line is shown: the line says at once that the work stops, then goes."""

from __future__ import annotations

import sys

import pytest
from terminal import CTRL_C, Terminal

PROGRAM = """
import time
from l4cli import console
from l4cli.signals import catch_interrupts
with console.{} as update, catch_interrupts(console.show_stopping) as interrupts:
    update({})
    for count in 1, 2, 3:
        while interrupts.count < count:
            time.sleep(0.01)
        if count == 2:
            update({})
console.warn("stopped")
"""


@pytest.mark.parametrize(
    ("line", "before", "after", "shown"),
    [
        ('part_progress("reading in parts", 3)', "1", "2", r"^stopping ….* 2 of 3 parts"),
        ('status("warming up")', '"computing 1"', '"computing 2"', r"^\S stopping …$"),
    ],
)
def test_ctrl_c_shows_at_once(line: str, before: str, after: str, shown: str) -> None:
    program = PROGRAM.format(line, before, after)
    with Terminal([sys.executable, "-c", program], columns=60) as terminal:
        terminal.wait_for("1 of 3 parts|computing 1")
        terminal.type(CTRL_C)
        terminal.wait_for("^(. )?stopping …")
        terminal.type(CTRL_C)
        terminal.wait_for(shown)
        assert "computing" not in terminal.text()
        terminal.type(CTRL_C)
        assert terminal.exit_code() == 0
        assert [line for line in terminal.lines() if line] == ["l4: stopped"]
