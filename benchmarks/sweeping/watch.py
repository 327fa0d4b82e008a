"""Watches processes that try members: counts how the members end, and outlives all that they do."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from benchmarks import ROOT
from benchmarks.shared import memory
from benchmarks.sweeping.trial import EXIT_UNSOUND, Kind

_HANGS_AFTER = 6.0  # times the seconds that a trial may take: other work may keep it waiting
_MOST_GROWTH = 2 << 30  # bytes that a trial may add to what the process has; then it is a finding
_MOST_TEXT = 600  # characters of a finding
_HOMES = ("CONFIG", "STATE", "CACHE", "DATA")
_LOOK = 1.0  # seconds between two looks at the memory of the children


@dataclass
class Figures:
    """What came of the members so far.

    next_seed: where to go on.
    late: seeds that took more than they may, in seconds.
    peak: the most memory of a process, in bytes; children_peak: that of a child process.
    resident: the memory of the first process after its first 500 trials, and of the last now.
    """

    next_seed: int
    num_trials: int = 0
    num_fine: int = 0
    num_refused: int = 0
    num_crashes: int = 0
    num_hangs: int = 0
    num_findings: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    slowest_seed: int = -1
    peak: int = 0
    peak_seed: int = -1
    children_peak: int = 0
    resident_before: int = 0
    resident: int = 0
    late: dict[int, float] = field(default_factory=dict)


Found = Callable[[int, str], None]


class Sweep:
    """Tries the members of a kind in processes, and notes each finding by its seed."""

    def __init__(self, name: str, kind: Kind, on_finding: Found) -> None:
        self.name, self.kind, self.on_finding = name, kind, on_finding

    def run(
        self, seeds: range, num_processes: int, on_progress: Callable[[Figures], None]
    ) -> Figures:
        """Try the members with these seeds. Ctrl-C ends it early."""
        figures = Figures(next_seed=seeds.start)
        began = time.monotonic()
        parts = [seeds[n::num_processes] for n in range(num_processes)]
        workers = [_Worker(self.name, part) for part in parts if part]
        try:
            while any(worker.is_open for worker in workers):
                self._listen(workers, figures)
                figures.next_seed = min(worker.next_seed for worker in workers)
                figures.seconds = time.monotonic() - began
                on_progress(figures)
        except KeyboardInterrupt:
            pass
        finally:
            for worker in workers:
                worker.close()
        return figures

    def _listen(self, workers: list[_Worker], figures: Figures) -> None:
        with selectors.DefaultSelector() as selector:
            for worker in workers:
                if worker.is_open:
                    selector.register(worker.reports, selectors.EVENT_READ, worker)
            ready = [key.data for key, _ in selector.select(_LOOK)]
        for worker in workers:
            if worker in ready:
                for report in worker.read():
                    self._count(report, figures)
                if worker.has_ended:
                    self._note_end(worker, figures)
            elif worker.is_open and worker.waits > self.kind.most_seconds * _HANGS_AFTER:
                worker.kill()
                figures.num_hangs += 1
                self._find(worker.seed, f"hangs: over {worker.waits:.0f} s", figures)
                worker.go_on()
            figures.children_peak = max(figures.children_peak, worker.peak_of_children())

    def _count(self, report: dict[str, Any], figures: Figures) -> None:
        figures.num_trials += 1
        figures.num_fine += report["num_fine"]
        figures.num_refused += report["num_refused"]
        figures.children_peak = max(figures.children_peak, report["children_peak"])
        figures.resident = report["resident"]
        if figures.num_trials == 500:
            figures.resident_before = report["resident"]
        seed = report["seed"]
        if report["seconds"] > figures.slowest:
            figures.slowest, figures.slowest_seed = report["seconds"], seed
        if report["peak"] > figures.peak:
            figures.peak, figures.peak_seed = report["peak"], seed
        if report["seconds"] > self.kind.most_seconds:
            figures.late[seed] = report["seconds"]
        if report["finding"]:
            self._find(seed, report["finding"], figures)
        elif report["grown"] > _MOST_GROWTH:
            self._find(seed, f"takes {report['grown'] >> 20:,} MiB of memory", figures)

    def _note_end(self, worker: _Worker, figures: Figures) -> None:
        status = worker.wait()
        if status == EXIT_UNSOUND:
            worker.go_on()
        elif not worker.is_done:
            how = signal.Signals(-status).name if status < 0 else f"exit code {status}"
            figures.num_crashes += status < 0
            self._find(worker.seed, f"ends the process ({how}): {worker.last_words()}", figures)
            worker.go_on()

    def _find(self, seed: int, text: str, figures: Figures) -> None:
        figures.num_findings += 1
        self.on_finding(seed, text[-_MOST_TEXT:])


class _Worker:
    """A process that tries the seeds of a range, and its successors after those that ended it."""

    def __init__(self, name: str, seeds: range) -> None:
        self._name, self._seeds = name, seeds
        self.seed = seeds.start  # of the member that is tried now
        self.next_seed = seeds.start
        self._start()

    def _start(self) -> None:
        self._scratch = Path(tempfile.mkdtemp(prefix="sweep-"))
        self._errors = (self._scratch / "stderr").open("w+b")
        self._buffer = b""
        self._is_between = True
        command = [sys.executable, "-m", "benchmarks.sweeping.worker", self._name]
        left = range(self.next_seed, self._seeds.stop, self._seeds.step)
        numbers = map(str, (left.start, left.step, left.stop))
        self._process = subprocess.Popen(
            [*command, *numbers, str(self._scratch)],
            cwd=ROOT,
            env=_environment(self._scratch),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # so that its children end with it, and Ctrl-C is ours alone
        )
        assert self._process.stdout
        self.reports: IO[bytes] = self._process.stdout
        self._heard = time.monotonic()
        self.has_ended, self.is_open = False, True

    def read(self) -> list[dict[str, Any]]:
        """The reports on members that have ended since the last call."""
        part = os.read(self.reports.fileno(), 1 << 16)
        self.has_ended = not part
        self._heard = time.monotonic()
        *lines, self._buffer = (self._buffer + part).split(b"\n")
        ended = []
        for report in map(json.loads, lines):
            self.seed = report["seed"]
            self._is_between = len(report) > 1
            if self._is_between:
                self.next_seed = self.seed + self._seeds.step
                ended.append(report)
        return ended

    @property
    def waits(self) -> float:
        """The seconds since the last report. What is prepared before the first takes longer."""
        return 0.0 if self._is_between else time.monotonic() - self._heard

    @property
    def is_done(self) -> bool:
        return self._is_between and self.next_seed >= self._seeds.stop

    def wait(self) -> int:
        status = self._process.wait()
        if self._is_between and not self.is_done and status != EXIT_UNSOUND:
            raise SystemExit(f"{self._name}: cannot begin: {self.last_words()}")
        self.kill()
        return status

    def go_on(self) -> None:
        """Start again after the member that ended the process."""
        self._clean()
        self.next_seed = self.seed + self._seeds.step
        if self.next_seed < self._seeds.stop:
            self._start()

    def last_words(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode("utf-8", "replace")[-400:].strip()

    def peak_of_children(self) -> int:
        return max((memory(pid).get("VmHWM", 0) for pid in self._children()), default=0)

    def _children(self) -> list[str]:
        try:
            tasks = Path(f"/proc/{self._process.pid}/task").glob("*/children")
            return [pid for task in tasks for pid in task.read_text().split()]
        except OSError:
            return []

    def kill(self) -> None:
        """End the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.is_open = False

    def close(self) -> None:
        self.kill()
        self._clean()

    def _clean(self) -> None:
        self._errors.close()
        self.reports.close()
        shutil.rmtree(self._scratch, ignore_errors=True)


def _environment(scratch: Path) -> dict[str, str]:
    """A home of its own, no network, and one thread."""
    homes = {f"XDG_{name}_HOME": str(scratch / name.lower()) for name in _HOMES}
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("L4_", "HF_"))
    }
    return {
        **kept,
        **homes,
        "HOME": str(scratch),
        "HF_HUB_OFFLINE": "1",
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests"))),
    }
