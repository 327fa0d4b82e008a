"""Members with a fault of each sort, with which a sweep is tried out itself."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.sweeping.trial import FINE, REFUSED, Ended, Trial

NUM_SORTS = 6
MOST_SECONDS = 0.2


def faults(_scratch: Path) -> Trial:
    """By turns: fine, refused, a finding, an exception, a crash, a hang."""
    sorts: tuple[Callable[[], Ended], ...] = (
        lambda: FINE,
        lambda: REFUSED,
        lambda: Ended(finding="a wrong answer"),
        _raise,
        _crash,
        _hang,
    )
    assert len(sorts) == NUM_SORTS
    return lambda seed: sorts[seed % NUM_SORTS]()


def _raise() -> Ended:
    raise ValueError("an exception")


def _crash() -> Ended:
    os.kill(os.getpid(), signal.SIGSEGV)
    return FINE


def _hang() -> Ended:
    time.sleep(600)
    return FINE
