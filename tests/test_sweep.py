"""A sweep outlives whatever its members do, and tells which they were."""

from __future__ import annotations

import pytest

from benchmarks.sweeping.faults import NUM_SORTS
from benchmarks.sweeping.kinds import KINDS
from benchmarks.sweeping.watch import Figures, Sweep


@pytest.mark.slow
def test_a_sweep_notes_each_fault_and_goes_on() -> None:
    found: dict[int, str] = {}
    seen: list[Figures] = []
    sweep = Sweep("faults", KINDS["faults"], lambda seed, text: found.update({seed: text}))
    figures = sweep.run(range(NUM_SORTS + 2), 1, seen.append)
    assert sorted(found) == [2, 3, 4, 5]
    assert found[2] == "a wrong answer"
    assert found[3].endswith("ValueError: an exception\n")
    assert found[4].startswith("ends the process (SIGSEGV)")
    assert found[5].startswith("hangs")
    assert (figures.num_fine, figures.num_refused) == (2, 2)
    assert (figures.num_crashes, figures.num_hangs, figures.num_findings) == (1, 1, 4)
    assert figures.next_seed == NUM_SORTS + 2
