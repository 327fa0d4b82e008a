"""Helpers that several benchmarks share: command lines, child processes, memory, medians."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import ROOT

L4 = (sys.executable, "-m", "l4cli")  # the `l4` command of this working tree


def make_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser whose --help begins with the script's docstring `doc`."""
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks.{Path(sys.argv[0]).stem}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def output_of(
    command: Iterable[object],
    *,
    env: Mapping[str, str] | None = None,
    exit_codes: Sequence[int] = (0,),
) -> str:
    """Run `command` and return its standard output; end the script if it fails.

    env: the command's environment; None means this process's.
    exit_codes: those that do not count as failure.
    """
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, env=env, check=False)
    if done.returncode not in exit_codes:
        raise SystemExit(f"{words} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def llama_bench(folder: Path, *options: object) -> list[dict[str, Any]]:
    """Run the llama-bench in `folder` with `options`; return one dictionary per test."""
    # l4 sets this for OpenMP in its own process on machines with few cores. With the same value on
    # both sides, the barriers between threads cost the same.
    env = {"GOMP_SPINCOUNT": "2000", **os.environ}
    out = output_of([folder / "llama-bench", *options, "-o", "json"], env=env)
    tests: list[dict[str, Any]] = json.loads(out)
    return tests


def spawn_in_terminal(arguments: Iterable[object], *, timeout: float | None = None) -> Any:
    """Start Python with `arguments` in a pseudo-terminal; return pexpect's child.

    timeout: seconds that each of the child's `expect` calls may take; None means no limit.
    """
    import pexpect  # an extra that most benchmarks do without

    return pexpect.spawn(
        sys.executable,
        [str(word) for word in arguments],
        dimensions=(40, 100),
        timeout=timeout,
        env={**os.environ, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"},
    )


def memory(pid: int | str = "self") -> dict[str, int]:
    """Return the sizes in /proc/PID/status in bytes, by name; none if the process has ended.

    VmRSS is the resident memory. It consists of RssAnon (memory that is not a page of a file),
    RssFile (pages of mapped files, such as weights) and RssShmem.
    """
    if not Path("/proc/self/status").exists():
        raise SystemExit("this benchmark needs Linux's /proc")
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): int(size) << 10 for name, size, _ in fields}


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median over all rounds of each figure."""
    return {name: median(each[name] for each in rounds) for name in rounds[0]}


class Stopwatch:
    """Measures the seconds spent in one method of a class, and counts its calls.

    clock: returns seconds; `time.thread_time` measures CPU time of the thread instead of wall time.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds = 0.0
        self.calls = 0
        self._clock = clock

    @contextmanager
    def around(self, owner: type, name: str) -> Iterator[None]:
        """Measure the method `name` of the class `owner` within this block."""
        method = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            began = self._clock()
            try:
                return method(*arguments, **options)
            finally:
                self.seconds += self._clock() - began

        setattr(owner, name, timed)
        try:
            yield
        finally:
            setattr(owner, name, method)


@dataclass(frozen=True)
class Cost:
    """What a process took.

    wall, cpu: seconds.
    rss: its peak of resident memory, in bytes.
    disk: the peak of disk space beyond what was there before, in bytes.
    """

    wall: float
    cpu: float
    rss: int
    disk: int

    def __add__(self, other: Cost) -> Cost:
        """Return the cost of both, one after the other; the first one's output stays on disk."""
        return Cost(
            self.wall + other.wall,
            self.cpu + other.cpu,
            max(self.rss, other.rss),
            self.disk + other.disk,
        )


def measure(command: Sequence[object], scratch: Path) -> Cost:
    """Run `command` to its end and return its cost; end the script if it fails.

    scratch: the folder that the command writes to; its disk space is watched.
    """
    log = ROOT / "build" / "bench.log"
    log.parent.mkdir(exist_ok=True)
    started = time.monotonic()
    before = peak = _disk_space(scratch)
    with log.open("wb") as file:
        process = subprocess.Popen(
            [str(word) for word in command], stdout=file, stderr=subprocess.STDOUT
        )
        while True:
            # wait4 instead of `process.wait` because it also returns the child's resource usage.
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            peak = max(peak, _disk_space(scratch))
            if pid:
                break
            time.sleep(0.02)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        note(log.read_text(errors="replace")[-2000:])
        raise SystemExit(f"{command[0]} ended with {process.returncode}")
    return Cost(
        wall=time.monotonic() - started,
        cpu=usage.ru_utime + usage.ru_stime,
        rss=usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        disk=peak - before,
    )


def _disk_space(folder: Path) -> int:
    """Return the bytes that the files in `folder` take on disk."""
    total = 0
    for file in folder.iterdir():
        try:
            total += file.stat().st_blocks * 512
        except FileNotFoundError:  # renamed since it was listed
            continue
    return total


def note(text: str) -> None:
    """Print a line to standard error, where it cannot be taken for the JSON line."""
    print(text, file=sys.stderr, flush=True)
