"""Starts `l4 …` in a fork of a process that has imported everything, instead of from nothing.

A test's command is a process of its own as before: its own arguments, environment, folder, pipes
and exit code. But the modules, whose import takes most of a short command's time, are imported once
for all tests, all but those of the Hub's library, which reads its variables then.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import termios
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_LENGTH = 8  # bytes of a message's length


class Started:
    """A command that was started: its process, and how it ends."""

    def __init__(self, pid: int, reply: socket.socket) -> None:
        self.pid = pid
        self._reply = reply
        self._status: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, negative for a signal. TimeoutError if it goes on for so many seconds."""
        if self._status is None:
            self._reply.settimeout(timeout)
            self._status = int(_receive(self._reply)[0])
            self._reply.close()
        return self._status

    def kill(self) -> int:
        """End it by SIGKILL if it has not ended; return how it ended."""
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        return self.wait()


class Starter:
    """The process that is forked, and what tests ask of it. Close it at the end."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._lock = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def start(
        self,
        arguments: Sequence[str],
        streams: tuple[int, int, int],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        in_terminal: bool = False,
    ) -> Started:
        """Start a command.

        streams: file descriptors of its stdin, stdout and stderr. They stay open here.
        in_terminal: whether they are a terminal, which becomes the one of the command.
        """
        ours, theirs = socket.socketpair()
        job = {
            "arguments": list(arguments),
            "env": dict(os.environ if env is None else env),
            "cwd": str(Path(cwd or ".").absolute()),
            "in_terminal": in_terminal,
        }
        with theirs, self._lock:
            _send(self._socket, job, [*streams, theirs.fileno()])
        return Started(int(_receive(ours)[0]), ours)

    def run(
        self,
        arguments: Sequence[str],
        stdin: bytes,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end, as `subprocess.run` does; TimeoutExpired kills it."""
        (child_in, our_out), (our_in, child_out), (our_err, child_err) = (
            os.pipe() for _ in range(3)
        )
        started = self.start(arguments, (child_in, child_out, child_err), env=env, cwd=cwd)
        for fd in (child_in, child_out, child_err):
            os.close(fd)
        said: dict[int, bytes] = {}
        threads = [
            threading.Thread(target=_feed, args=[our_out, stdin]),
            *(threading.Thread(target=_drain, args=[fd, said]) for fd in (our_in, our_err)),
        ]
        for thread in threads:
            thread.start()
        try:
            status = started.wait(timeout)
        except TimeoutError:
            started.kill()
            raise subprocess.TimeoutExpired(list(arguments), timeout) from None
        finally:
            for thread in threads:
                thread.join()
        return subprocess.CompletedProcess(list(arguments), status, said[our_in], said[our_err])

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


@functools.cache
def shared() -> Starter:
    """The starter of this process, which is closed at its end."""
    starter = Starter()
    atexit.register(starter.close)
    return starter


def starts_alike(env: Mapping[str, str]) -> bool:
    """Whether a fork is what a new process would be: Python reads some variables at its start."""
    names = {name for name in {*env, *os.environ} if name.startswith(("LC_", "LANG", "PYTHON"))}
    return all(env.get(name) == os.environ.get(name) for name in names)


def _feed(fd: int, data: bytes) -> None:
    try:
        with os.fdopen(fd, "wb") as pipe:
            pipe.write(data)
    except BrokenPipeError:
        pass  # the command does not read all of it


def _drain(fd: int, said: dict[int, bytes]) -> None:
    with os.fdopen(fd, "rb") as pipe:
        said[fd] = pipe.read()


def _send(channel: socket.socket, value: Any, fds: Sequence[int] = ()) -> None:
    data = json.dumps(value).encode()
    socket.send_fds(channel, [len(data).to_bytes(_LENGTH, "big")], fds)
    channel.sendall(data)


def _receive(channel: socket.socket) -> tuple[Any, list[int]]:
    head, fds, _, _ = socket.recv_fds(channel, _LENGTH, 4)
    if not head:
        raise EOFError
    data, length = b"", int.from_bytes(head, "big")
    while len(data) < length:
        data += channel.recv(length - len(data))  # behind it the next message may stand already
    return json.loads(data), fds


def _serve(channel: socket.socket) -> None:
    from flags import import_everything

    import_everything(without="l4cli.models.hub")  # its library reads variables when imported
    assert "huggingface_hub" not in sys.modules
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    while True:
        try:
            job, fds = _receive(channel)
        except EOFError:
            return
        if os.fork() == 0:
            channel.close()
            _keep(job, fds)
        for fd in fds:
            os.close(fd)


def _keep(job: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Fork the command, tell its process and how it ended, and end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, reply_fd = fds
    pid = os.fork()
    if pid == 0:
        os.close(reply_fd)
        _be_l4(job, streams)
    for fd in streams:
        os.close(fd)
    with socket.socket(fileno=reply_fd) as reply, contextlib.suppress(OSError):
        _send(reply, pid)
        _, status = os.waitpid(pid, 0)
        _send(reply, os.waitstatus_to_exitcode(status))
    os._exit(0)


def _be_l4(job: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Be the command in this process, and end it as the interpreter would."""
    code: Any = 99
    try:
        if job["in_terminal"]:
            os.setsid()
            fcntl.ioctl(fds[0], termios.TIOCSCTTY, 0)
        for target, fd in enumerate(fds):
            os.dup2(fd, target)
            os.close(fd)
        _open_streams()
        os.environ.clear()
        os.environ.update(job["env"])
        os.chdir(job["cwd"])
        import l4cli
        from l4cli.app import main

        sys.argv = [str(Path(l4cli.__file__).with_name("__main__.py")), *job["arguments"]]
        main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _open_streams() -> None:
    """Open the standard streams anew: what they stand for is another file now."""
    sys.stdin = sys.__stdin__ = os.fdopen(0, closefd=False)  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = os.fdopen(  # type: ignore[misc]
        2, "w", buffering=1, errors="backslashreplace", closefd=False
    )


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
