"""Tries members one after the other, and writes a line before and after each.

    python -m benchmarks.sweeping.worker KIND FIRST STEP END SCRATCH

A member may crash this process, make it hang or fill its memory. `watch.py` starts it, watches it,
and starts another one after the member that ended it.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.sweeping.kinds import KINDS
from benchmarks.sweeping.trial import EXIT_UNSOUND, Ended, Trial


def main() -> None:
    kind, first, step, end, scratch = sys.argv[1:]
    reports = os.dup(1)  # what commands print must not get into the reports
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    trial = KINDS[kind].prepare(Path(scratch))
    for seed in range(int(first), int(end), int(step)):
        _write(reports, {"seed": seed})
        report, is_sound = _try(trial, seed)
        _write(reports, {"seed": seed, **report})
        if not is_sound:
            sys.exit(EXIT_UNSOUND)


def _try(trial: Trial, seed: int) -> tuple[dict[str, Any], bool]:
    """How the trial of a member ended, its seconds, and its bytes of memory at most.

    Also whether this process is as it was: after an exception, files may be open or locked.
    """
    _forget_peak()
    before, began, is_sound = _status("VmRSS"), time.monotonic(), True
    try:
        ended = trial(seed)
    except Exception:
        ended, is_sound = Ended(finding=traceback.format_exc()[-1500:]), False
    return {
        **asdict(ended),
        "seconds": round(time.monotonic() - began, 3),
        "peak": _status("VmHWM"),
        "grown": _status("VmHWM") - before,
        "resident": _status("VmRSS"),
        "children_peak": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10,
    }, is_sound


def _forget_peak() -> None:
    """Have Linux count this process's peak of memory from now on."""
    Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    """A size in /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    return 0


def _write(fd: int, report: dict[str, Any]) -> None:
    os.write(fd, json.dumps(report).encode() + b"\n")


if __name__ == "__main__":
    main()
