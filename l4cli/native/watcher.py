"""What is said when the process ends without a chance to say anything itself.

A failed GGML_ASSERT, a segmentation fault or the kernel's OOM killer end the process at once, with
nothing on the screen but the shell's "Segmentation fault". So `l4` forks a small process at its
start, which waits at a pipe. Python's `faulthandler` writes the stack of a crash into that pipe;
when the pipe closes without a goodbye, the watcher prints what happened, what is safe on disk and
the command that goes on. The process that people see, stop and kill stays the one they started.
What ends the watcher, too, such as kill -9 for the whole process group, is not explained.

What the watcher would say lies in memory that both processes share: `tell` changes it without a
system call, and it outlives a kill -9.
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

_GOODBYE = b"\x06"
_FATAL = b"Fatal Python error: "  # how faulthandler begins, `faulthandler_fatal_error`
_MOST_FRAMES = 10
_PAUSE = 0.05  # seconds without another line, after which a stack is whole
_SIGNALS = {
    "Segmentation fault": "SIGSEGV",
    "Aborted": "SIGABRT",
    "Illegal instruction": "SIGILL",
    "Floating-point exception": "SIGFPE",
    "Floating point exception": "SIGFPE",
    "Bus error": "SIGBUS",
}

_TEXT_SIZE = 1 << 15  # bytes of each of the two places for what would be said
_NUM_ROWS = 1024  # rows that can be in work at once
_MOST_FDS = 1 << 16  # file descriptors that the watcher closes
ROW_BYTES = 8


@dataclass(frozen=True, slots=True)
class Report:
    """What there is to say of a crash.

    `safe` are lines on what is on disk and how to go on, `journal` is where a run notes the rows
    that were in work, `check` is llama.cpp's message where it stopped itself.
    """

    safe: tuple[str, ...] = ()
    journal: str | None = None
    check: str = ""


class Notes:
    """Memory shared with the watcher: a report, and the digests of the rows in work.

    A report is written into the place that is not in use, and then that one is used: the process
    may end at any moment. The first row's place is for the one that is being prepared, the others
    for those that are computed.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 1 + 2 * _TEXT_SIZE + _NUM_ROWS * ROW_BYTES)
        self._places: dict[bytes, int] = {}
        self._free = list(range(_NUM_ROWS - 1, 0, -1))

    def write(self, report: Report) -> None:
        data = _encoded(report)
        if len(data) + 4 > _TEXT_SIZE:  # a very long command line: the journal is what counts
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
        """The row that is being prepared from now on; None: none is."""
        self._set(0, digest or bytes(ROW_BYTES))

    def begin(self, digest: bytes) -> None:
        """A row is being computed from now on."""
        if self._free and digest not in self._places:
            place = self._places[digest] = self._free.pop()
            self._set(place, digest)

    def end(self, digest: bytes) -> None:
        place = self._places.pop(digest, None)
        if place is not None:
            self._set(place, bytes(ROW_BYTES))
            self._free.append(place)

    def rows(self) -> list[bytes]:
        """The rows of which one may be to blame: the one in preparation, else all in work."""
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
    """Say these lines if the process is ended from here on; a crash is noted in `journal`."""
    global _report
    _report = Report(safe, None if journal is None else str(journal.absolute()))
    if _notes:
        _notes.write(_report)


def tell_check(message: str) -> bool:
    """Keep llama.cpp's last words; False where nobody watches, and they have to be shown now."""
    if _notes is None:
        return False
    _notes.write(Report(_report.safe, _report.journal, message))
    return True


def rows_in_work() -> Notes:
    """Where a run keeps the rows in work, for the watcher, if there is one, to read."""
    return _notes or Notes()


def forgo_debugger() -> None:
    """Keep ggml from starting gdb or lldb when it fails.

    A debugger writes its backtrace to stdout, among the answers, and takes seconds. ggml reads the
    variable when it is loaded, and again when it fails.
    """
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")


@contextmanager
def watching(arguments: Sequence[str]) -> Iterator[None]:
    """Within, the end of this process is explained, whatever ends it.

    `arguments` are the command's, for the way to go on. Must be entered before there are threads.
    Where the system has no fork, nothing is watched.
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
    except OSError:  # no process more is allowed: l4 runs, unwatched
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
    """Wait for the process to end, and explain it where it could not."""
    for number in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGTSTP", "SIGTTOU", "SIGPIPE"):
        signal.signal(getattr(signal, number), signal.SIG_IGN)
    # What was opened for the command is not ours to keep open: only stderr is.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(reader, 3)
    os.closerange(4, min(os.sysconf("SC_OPEN_MAX"), _MOST_FDS))
    began = num_oom_kills()
    output = b""
    # Once a crash has begun to be written, its end is near: a big process takes its time to be
    # taken down, and this is to stand before the shell's prompt.
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
    """How a process ended: the signal's name, and whether a row may be to blame."""

    signal: str
    words: str
    is_crash: bool


def _crashed(output: bytes) -> _End:
    words = output.partition(_FATAL)[2].partition(b"\n")[0].decode("utf-8", "replace").strip()
    name = _SIGNALS.get(words)
    described = f"{words.lower()} ({name})" if name else words
    return _End(name or words, f"crashed in native code: {described}", True)


def _killed(num_before: int | None) -> _End:
    time.sleep(0.05)  # the kernel counts an OOM kill about when the pipe closes
    now = num_oom_kills()
    if num_before is not None and now is not None and now > num_before:
        return _End("out of memory", "was killed by the system: it ran out of memory", True)
    return _End("", "was killed (by kill -9, or by a limit of the system)", False)


def _explain(end: _End, stack: Sequence[str], notes: Notes, arguments: Sequence[str]) -> None:
    """Say what happened, after the stack: what matters is to be on the screen at the end."""
    report = notes.read()
    words = end.words
    if report.check:
        words = f"llama.cpp stopped on a failed check: {report.check}"
    rows = notes.rows()
    if end.is_crash and report.journal and rows:
        _note_crash(report.journal, end.signal, rows)
    lines = [f"l4: {words}"]
    lines += [f"l4: {line}" for line in report.safe or _to_start_again(arguments)]
    if stack:
        intro = "l4: where Python was (for a bug report, add what `l4 doctor` shows):"
        lines = [intro, *stack, *lines]
    clear = "\r\x1b[K\x1b[?25h" if os.isatty(2) else ""  # a progress line, a hidden cursor
    _say(clear + lines[0], *lines[1:])


def _to_start_again(arguments: Sequence[str]) -> list[str]:
    return [f"to start again: {shlex.join(['l4', *arguments])}"]


def _note_crash(journal: str, name: str, rows: Sequence[bytes]) -> None:
    """Append to a run's journal which rows were in work: `--resume` takes care with them."""
    line = json.dumps({"crash": name, "rows": [row.hex() for row in rows]}) + "\n"
    with suppress(OSError):
        fd = os.open(journal, os.O_WRONLY | os.O_APPEND)
        os.write(fd, line.encode())
        os.close(fd)


def _stack(output: bytes) -> list[str]:
    """The Python stack that faulthandler wrote, innermost first: of the thread that crashed.

    Where that was none of Python's, all threads are shown.
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
    """A frame with its file as Python would import it, not as it lies on this disk."""
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
