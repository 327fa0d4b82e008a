"""Starts `l4 …` in a fork of a process that has imported everything, instead of from nothing.

A test's command is a process of its own as before: its own arguments, environment, folder, pipes
and exit code. But the modules, whose import takes most of a short command's time, are imported once
for all tests. What an import reads from the environment is read too early: commands with variables
of the Hub's library must be started in the usual way.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_LENGTH = 8  # bytes of a message's length


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
        with self._lock:
            return self._run(arguments, stdin, dict(env or os.environ), str(cwd or "."), timeout)

    def _run(
        self, arguments: Sequence[str], stdin: bytes, env: dict[str, str], cwd: str, timeout: float
    ) -> subprocess.CompletedProcess[bytes]:
        (child_in, our_out), (our_in, child_out), (our_err, child_err) = (
            os.pipe() for _ in range(3)
        )
        job = {"arguments": list(arguments), "env": env, "cwd": str(Path(cwd).absolute())}
        _send(self._socket, job, [child_in, child_out, child_err])
        for fd in (child_in, child_out, child_err):
            os.close(fd)
        said: dict[int, bytes] = {}
        threads = [
            threading.Thread(target=_feed, args=[our_out, stdin]),
            *(threading.Thread(target=_drain, args=[fd, said]) for fd in (our_in, our_err)),
        ]
        for thread in threads:
            thread.start()
        pid = _receive(self._socket)[0]
        self._socket.settimeout(timeout)
        try:
            status = _receive(self._socket)[0]
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            self._socket.settimeout(None)
            _receive(self._socket)
            raise subprocess.TimeoutExpired(list(arguments), timeout) from None
        finally:
            self._socket.settimeout(None)
            for thread in threads:
                thread.join()
        return subprocess.CompletedProcess(list(arguments), status, said[our_in], said[our_err])

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


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
    head, fds, _, _ = socket.recv_fds(channel, _LENGTH, 3)
    if not head:
        raise EOFError
    data, length = b"", int.from_bytes(head, "big")
    while len(data) < length:
        data += channel.recv(length - len(data))  # behind it the next message may stand already
    return json.loads(data), fds


def _serve(channel: socket.socket) -> None:
    from flags import import_everything

    import_everything()
    while True:
        try:
            job, fds = _receive(channel)
        except EOFError:
            return
        pid = os.fork()
        if pid == 0:
            channel.close()
            _be_l4(job, fds)
        for fd in fds:
            os.close(fd)
        _send(channel, pid)
        _, status = os.waitpid(pid, 0)
        _send(channel, os.waitstatus_to_exitcode(status))


def _be_l4(job: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Be the command in this process, and end it as the interpreter would."""
    code: Any = 99
    try:
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
