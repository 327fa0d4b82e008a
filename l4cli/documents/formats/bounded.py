"""Converts documents in a child process, with limits on its time and memory.

Parsers of foreign formats may take hours or gigabytes for a small damaged file, or crash. In a
child process that costs one line, and Ctrl-C works meanwhile, because this process only waits.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

from l4cli.background import TURN
from l4cli.documents.document import Document, Heading
from l4cli.documents.formats.readers import EmptyDocumentError, Read, convert
from l4cli.documents.text import BinaryFileError
from l4cli.errors import InputError

_START = (
    "import sys; sys.path[:] = sys.argv[1:]; "
    "from l4cli.documents.formats.worker import main; main()"
)
_KINDS: dict[str, type[InputError]] = {
    "BinaryFileError": BinaryFileError,
    "EmptyDocumentError": EmptyDocumentError,
}
_WAIT_FACTOR = 4  # a process may wait for a processor or a disk for longer than it computes
_RENEW_AFTER = 8 << 20  # bytes of a document after which the child's memory is given back
_PARTING = 2.0  # seconds that an idle child gets to end by itself


@dataclass(frozen=True, slots=True)
class Limits:
    """The seconds of computing and the bytes of memory that a document may take."""

    seconds: float
    n_bytes: int


def limits_of(data: bytes) -> Limits:
    """Return the limits for a document. They grow with its size, and more so if it is packed."""
    size = len(data) / (1 << 20)
    is_pdf, is_packed = b"%PDF-" in data[:1024], data.startswith(b"PK")
    return Limits(
        seconds=8 + size * (150 if is_packed else 50 if is_pdf else 30),
        n_bytes=min((3 << 29) + len(data) * (200 if is_packed or is_pdf else 40), 8 << 30),
    )


def convert_bounded(data: bytes, name: str, limits: Limits | None = None) -> Read:
    """Convert a file's bytes to a document as `readers.convert` does, within `limits`.

    Raises InputError, which begins with `name`, also if the limits do not suffice.
    """
    if os.name != "posix":
        return convert(data, name)  # Windows has no such limits
    with _lock:
        global _child
        child, _child = _child, None  # it is kept only if all goes well
        if child is not None and not child.is_alive:
            child.kill()
            child = None
        child = child or _Child()
        try:
            reply = child.exchange(data, name, limits or limits_of(data))
        except BaseException:
            child.kill()
            raise
        if len(data) > _RENEW_AFTER:
            child.close()
        else:
            _child = child
    return _read(reply, name)


def _read(reply: dict[str, Any], name: str) -> Read:
    """Return the document of a reply, or raise the error that it tells."""
    if kind := reply.get("error"):
        message = str(reply["message"])
        if kind == "MemoryError":
            raise InputError(_too_much_memory(name))
        if kind == "bug":
            raise RuntimeError(f"reading {name}: {message}")
        raise _KINDS.get(kind, InputError)(message)
    document = Document(
        name,
        reply["text"],
        pages=tuple(reply["pages"]),
        headings=tuple(Heading(**heading) for heading in reply["headings"]),
        has_lines=reply["has_lines"],
    )
    return Read(document, reply["left_out"], reply["notes"])


def _too_much_memory(name: str) -> str:
    return f"{name}: takes more memory than a document of its size should; it may be damaged"


class _Child:
    """A child process. It is of no use after an exception; `kill` it then."""

    def __init__(self) -> None:
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _START, *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in the terminal does not reach it
                bufsize=0,
            )
        except OSError as error:
            raise InputError(
                f"cannot start a process to read documents: {error.strerror}"
            ) from None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._replies = self._process.stdin, self._process.stdout
        os.set_blocking(self._requests.fileno(), False)

    def exchange(self, data: bytes, name: str, limits: Limits) -> dict[str, Any]:
        """Send a document and return the reply. Raises InputError if the child ends instead."""
        request = {"name": name, "length": len(data), "limits": asdict(limits)}
        deadline = time.monotonic() + limits.seconds * _WAIT_FACTOR
        unsent = memoryview(json.dumps(request).encode() + b"\n" + data)
        received = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._requests, selectors.EVENT_WRITE)
            selector.register(self._replies, selectors.EVENT_READ)
            while not _is_whole(received):
                left = deadline - time.monotonic()
                events = selector.select(min(max(0.0, left), TURN))
                if left <= 0 and not events:
                    raise InputError(_too_slow(name, limits))
                for key, _ in events:
                    if key.fileobj is self._requests:
                        with contextlib.suppress(BrokenPipeError):
                            unsent = unsent[os.write(self._requests.fileno(), unsent[:65536]) :]
                        if not unsent:
                            selector.unregister(self._requests)
                    else:
                        part = os.read(self._replies.fileno(), 1 << 20)
                        if not part:
                            raise InputError(self._how_it_ended(name, limits))
                        received += part
        reply: dict[str, Any] = json.loads(received[received.index(b"\n") + 1 :])
        return reply

    def _how_it_ended(self, name: str, limits: Limits) -> str:
        code = self._process.wait()
        if code == -signal.SIGXCPU:
            return _too_slow(name, limits)
        if code in (-signal.SIGKILL, -signal.SIGABRT, -signal.SIGTRAP, -signal.SIGILL):
            return _too_much_memory(name)
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"{name}: its reader crashed ({how}); the file may be damaged"

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """Let an idle child end."""
        self._requests.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_PARTING)
        self.kill()

    def kill(self) -> None:
        """End the child at once."""
        self._process.kill()
        self._process.wait()
        self._requests.close()
        self._replies.close()


def _is_whole(received: bytearray) -> bool:
    """Whether a reply, which begins with its length and a line end, is complete."""
    end = received.find(b"\n", 0, 32)
    return end >= 0 and len(received) >= end + 1 + int(received[:end])


def _too_slow(name: str, limits: Limits) -> str:
    return (
        f"{name}: takes more than {limits.seconds:.0f} s to read; "
        "it may be damaged, or made to be slow"
    )


def end_child() -> None:
    """End the child process, if there is one. It is done at exit, too."""
    if _child is not None:
        _child.close()


_lock = threading.Lock()
_child: _Child | None = None
atexit.register(end_child)
