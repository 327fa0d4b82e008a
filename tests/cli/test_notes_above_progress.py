"""A note that is written while a progress line is shown gets a line of its own."""

from __future__ import annotations

import sys

from terminal import Terminal

PROGRAM = """
import time
from l4cli import console
with console.status("finding the model"):
    time.sleep(0.3)
    console.note("converting the demo model to " + "x" * 90)
    time.sleep(0.3)
console.note("done")
"""


def test_a_note_stands_above_the_progress_line() -> None:
    with Terminal([sys.executable, "-c", PROGRAM], columns=60) as terminal:
        assert terminal.exit_code() == 0
        lines = terminal.text().split("\n")
    shown = [line.rstrip() for line in lines if line.strip()]
    assert shown[0] == "converting the demo model to"
    assert "".join(shown[1:]) == "x" * 90 + "done"
