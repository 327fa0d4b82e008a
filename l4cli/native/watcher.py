"""Explains a crash: a watcher process prints what happened after the main process has ended.

A failed GGML_ASSERT, a segmentation fault or the kernel's OOM killer end the process at once, and
the user sees only the shell's "Segmentation fault". So `l4` forks a small process at its start, the
watcher, which waits at a pipe. Python's `faulthandler` writes the stack of a crash into that pipe.
If the pipe closes without a goodbye, the watcher prints what happened, which results are safe on
disk, and the command that continues the work. The process that the user sees, stops and kills is
still the one they started. If the watcher is killed as well, for example by a kill -9 of the whole
process group, nothing is explained.

The text that the watcher would print is in memory shared by both processes. `tell` changes it
without a system call, and it survives a kill -9 of the main process.
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import re
import select
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from l4cli.native.oom import num_oom_kills
from l4cli.printable import harmless

_GOODBYE = b"\x06"
_FATAL = b"Fatal Python error: "  # faulthandler's first words, see `faulthandler_fatal_error`
_MOST_FRAMES = 10
_PAUSE = 0.05  # seconds without another line, after which a stack counts as complete
_SIGNALS = {
    "Segmentation fault": "SIGSEGV",
    "Aborted": "SIGABRT",
    "Illegal instruction": "SIGILL",
    "Floating-point exception": "SIGFPE",
    "Floating point exception": "SIGFPE",
    "Bus error": "SIGBUS",
}

_TEXT_SIZE = 1 << 15  # bytes of each of the two places for a report
_NUM_ROWS = 1024  # rows that can be in progress at once
_MOST_FDS = 1 << 16  # file descriptors that the watcher closes
ROW_BYTES = 8


@dataclass(frozen=True, slots=True)
class Report:
    """What the watcher would print about a crash.

    safe: lines on what is safe on disk and how to continue.
    journal: the run's journal, to which the rows in progress are appended; None if there is none.
    check: llama.cpp's message if it ended the process itself, else "".
    """

    safe: tuple[str, ...] = ()
    journal: str | None = None
    check: str = ""


class Notes:
    """Memory shared with the watcher: a report, and the digests of the rows in progress.

    There are two places for a report, because the process may end at any moment: a new report is
    written into the unused place, which is then made the current one. The first place for a row is
    for the one that is being prepared, the others are for rows that are being computed.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 1 + 2 * _TEXT_SIZE + _NUM_ROWS * ROW_BYTES)
        self._places: dict[bytes, int] = {}
        self._free = list(range(_NUM_ROWS - 1, 0, -1))

    def write(self, report: Report) -> None:
        data = _encoded(report)
        if len(data) + 4 > _TEXT_SIZE:  # a very long command line: drop it, keep the journal
            data = _encoded(Report((), report.journal, report.check[: _TEXT_SIZE // 8]))
        place = 1 - self._memory[0]
        start = 1 + place * _TEXT_SIZE
        self._memory[start : start + 4] = len(data).to_bytes(4, "little")
        self._memory[start + 4 : start + 4 + len(data)] = data
        self._memory[0] = place

    def read(self) -> Report:
        start = 1 + self._memory[0] * _TEXT_SIZE
        size = int.from_bytes(self._memory[start : start + 4], "little")
        if not size:
            return Report()
        found = json.loads(self._memory[start + 4 : start + 4 + size])
        return Report(**{**found, "safe": tuple(found["safe"])})

    def prepare(self, digest: bytes | None) -> None:
        """Note that this row is being prepared; None: no row is being prepared any more."""
        self._set(0, digest or bytes(ROW_BYTES))

    def begin(self, digest: bytes) -> None:
        """Note that this row is being computed."""
        if self._free and digest not in self._places:
            place = self._places[digest] = self._free.pop()
            self._set(place, digest)

    def end(self, digest: bytes) -> None:
        place = self._places.pop(digest, None)
        if place is not None:
            self._set(place, bytes(ROW_BYTES))
            self._free.append(place)

    def rows(self) -> list[bytes]:
        """Return the rows that may have caused a crash: the one being prepared, else all others."""
        start = 1 + 2 * _TEXT_SIZE
        held = [
            self._memory[at : at + ROW_BYTES]
            for at in range(start, start + _NUM_ROWS * ROW_BYTES, ROW_BYTES)
        ]
        if any(held[0]):
            return [held[0]]
        return [digest for digest in held[1:] if any(digest)]

    def _set(self, place: int, digest: bytes) -> None:
        start = 1 + 2 * _TEXT_SIZE + place * ROW_BYTES
        self._memory[start : start + ROW_BYTES] = digest


def _encoded(report: Report) -> bytes:
    return json.dumps(asdict(report), ensure_ascii=False).encode("utf-8", "replace")


_notes: Notes | None = None
_report = Report()


def tell(*safe: str, journal: Path | None = None) -> None:
    """Set the lines to print if the process crashes or is killed from now on.

    With a `journal`, the rows in progress at a crash are appended to it.
    """
    global _report
    _report = Report(safe, None if journal is None else str(journal.absolute()))
    if _notes:
        _notes.write(_report)


def tell_check(message: str) -> bool:
    """Keep llama.cpp's last message for the watcher.

    Returns False if there is no watcher; the caller must then print the message itself.
    """
    if _notes is None:
        return False
    _notes.write(Report(_report.safe, _report.journal, message))
    return True


def rows_in_work() -> Notes:
    """Return the Notes in which a run records its rows in progress, for the watcher if any."""
    return _notes or Notes()


def forgo_debugger() -> None:
    """Keep ggml from starting gdb or lldb when it fails.

    A debugger writes its backtrace to stdout, among the answers, and takes seconds. ggml reads the
    variable when it is loaded, and again when it fails.
    """
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")


@contextmanager
def watching(arguments: Sequence[str]) -> Iterator[None]:
    """Context manager: while it is entered, a watcher explains a sudden end of this process.

    `arguments` are the command line's, for the line that says how to start again. Must be entered
    before any thread is started. On systems without fork, nothing is watched.
    """
    global _notes
    if not hasattr(os, "fork"):
        yield
        return
    forgo_debugger()
    notes = Notes()
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        pid = os.fork()
    except OSError:  # no more processes are allowed: l4 runs without a watcher
        os.close(reader)
        os.close(writer)
        yield
        return
    if pid == 0:
        try:
            os.close(writer)
            _watch(reader, notes, arguments)
        finally:
            os._exit(0)
    os.close(reader)
    faulthandler.enable(file=writer, all_threads=True)
    _notes = notes
    tell()
    try:
        yield
    finally:
        with suppress(OSError):
            os.write(writer, _GOODBYE)
        _notes = None
        faulthandler.disable()
        os.close(writer)
        with suppress(OSError):
            os.waitpid(pid, 0)


def _watch(reader: int, notes: Notes, arguments: Sequence[str]) -> None:
    """Wait for the process to end, and explain the end unless the process said goodbye."""
    for number in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGTSTP", "SIGTTOU", "SIGPIPE"):
        signal.signal(getattr(signal, number), signal.SIG_IGN)
    # Close all files that were opened for the command, except stderr: `l4 … | program` must end
    # when l4 does.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(reader, 3)
    os.closerange(4, min(os.sysconf("SC_OPEN_MAX"), _MOST_FDS))
    began = num_oom_kills()
    output = b""
    # Do not wait for the pipe to close once a crash's stack is complete. The kernel takes long to
    # end a big process, and the explanation should be on the screen before the shell's prompt.
    while _FATAL not in output or select.select([3], [], [], _PAUSE)[0]:
        part = os.read(3, 1 << 16)
        output += part
        if not part or output.endswith(_GOODBYE):
            break
    if not output.endswith(_GOODBYE):
        end = _crashed(output) if _FATAL in output else _killed(began)
        _explain(end, _stack(output), notes, arguments)


@dataclass(frozen=True, slots=True)
class _End:
    """How a process ended: the signal's name, words for it, and whether a row may be the cause."""

    signal: str
    words: str
    is_crash: bool


def _crashed(output: bytes) -> _End:
    words = output.partition(_FATAL)[2].partition(b"\n")[0].decode("utf-8", "replace").strip()
    name = _SIGNALS.get(words)
    described = f"{words.lower()} ({name})" if name else words
    return _End(name or words, f"l4 crashed in native code: {described}", True)


def _killed(num_before: int | None) -> _End:
    time.sleep(0.05)  # the kernel counts an OOM kill at about the time when the pipe closes
    now = num_oom_kills()
    if num_before is not None and now is not None and now > num_before:
        return _End("out of memory", "l4 was killed by the system: it ran out of memory", True)
    return _End("", "l4 was killed (by kill -9, or by a limit of the system)", False)


def _explain(end: _End, stack: Sequence[str], notes: Notes, arguments: Sequence[str]) -> None:
    """Print the stack and then the explanation: the last lines are the ones that the user sees."""
    report = notes.read()
    words = end.words
    if report.check:
        words = f"l4: llama.cpp stopped on a failed check: {report.check}"
    rows = notes.rows()
    if end.is_crash and report.journal and rows:
        _note_crash(report.journal, end.signal, rows)
    lines = [words]
    lines += [f"l4: {line}" for line in report.safe or _to_start_again(arguments)]
    if stack:
        intro = "l4: Python's stack (for a bug report, add what `l4 doctor` shows):"
        lines = [intro, *stack, *lines]
    # Clears a progress line, shows a hidden cursor.
    clear = "\r\x1b[K\x1b[?25h" if os.isatty(2) else ""
    first, *others = map(harmless, lines)
    _say(clear + first, *others)


def _to_start_again(arguments: Sequence[str]) -> list[str]:
    return [f"to start again: {shlex.join(['l4', *arguments])}"]


def _note_crash(journal: str, name: str, rows: Sequence[bytes]) -> None:
    """Append the rows in progress to a run's journal; `--resume` runs them one at a time."""
    line = json.dumps({"crash": name, "rows": [row.hex() for row in rows]}) + "\n"
    with suppress(OSError):
        fd = os.open(journal, os.O_WRONLY | os.O_APPEND)
        os.write(fd, line.encode())
        os.close(fd)


def _stack(output: bytes) -> list[str]:
    """Return the crashed thread's Python stack from faulthandler's output, innermost frame first.

    If the thread was not one of Python's, all threads' stacks are returned.
    """
    text = output.partition(_FATAL)[2].decode("utf-8", "replace").partition("\n")[2]
    text = text.lstrip("\n")
    stacks = [stack.splitlines() for stack in text.partition("Extension modules:")[0].split("\n\n")]
    stacks = [stack for stack in stacks if any("  File " in line for line in stack)]
    crashed = [stack for stack in stacks if stack[0].startswith("Current thread")]
    lines = [line for stack in crashed or stacks for line in stack if "  File " in line]
    more = len(lines) - _MOST_FRAMES
    shown = [_frame(line) for line in lines[:_MOST_FRAMES]]
    return [*shown, f"  … and {more} more"] if more > 0 else shown


def _frame(line: str) -> str:
    """Return a frame with its file's path shortened to the part below a folder in sys.path."""
    found = re.match(r'\s+File "(.*)", line (\d+) in (.*)', line)
    if not found:
        return line
    path = Path(found[1])
    folders = [folder for folder in map(Path, sys.path) if folder.is_absolute()]
    inside = [path.relative_to(folder) for folder in folders if path.is_relative_to(folder)]
    shortest = min(inside, key=lambda each: len(each.parts), default=path)
    return f"  {shortest}:{found[2]} in {found[3]}"


def _say(*lines: str) -> None:
    with suppress(OSError):
        os.write(2, "".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
