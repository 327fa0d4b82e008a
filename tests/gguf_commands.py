"""Runs commands on a GGUF, each in a child process, since llama.cpp may end the process.

assert outcome("run", path).kind == "refused"
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from commands_here import Ended

COMMANDS: dict[str, tuple[str, ...]] = {
    "info": ("info", "{}"),
    "plan": ("plan", "{}", "--ram", "64G@80", "--gpu", "none"),
    "quantize": ("quantize", "{}", "-o", "{}.out", "--type", "Q4_0", "--force", "--overwrite"),
    "run": ("run", "-m", "{}", "--ctx", "256", "-n", "3", "--raw"),
    "chat": ("chat", "-m", "{}", "--ctx", "256", "-n", "3", "-p", "hello"),
}
_MOST_SECONDS = 60  # on the clock, so that other work on the machine does not count
_ROW = b'{"prompt": "hello world"}\n'


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    kind: "done", "refused" (one line), "crash" (llama.cpp ended the process, and l4 says so in a
        line), or "wrong".
    """

    kind: str
    text: str


def outcome(command: str, path: Path) -> Outcome:
    """Run one of COMMANDS on the GGUF `path`."""
    import l4cli.loading.load  # noqa: F401  imported here once, not in every child

    arguments = [part.replace("{}", str(path)) for part in COMMANDS[command]]
    with tempfile.TemporaryFile() as out:
        status, told = _in_child(arguments, out)
        out.seek(0)
        said = out.read().decode("utf-8", "replace")
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        is_explained = "crashed in native code" in told or "failed check" in told
        if number == signal.SIGALRM:
            return Outcome("wrong", f"takes over {_MOST_SECONDS} s: {told}")
        return Outcome("crash" if is_explained else "wrong", f"signal {number}: {told}")
    ended = Ended(os.WEXITSTATUS(status), said, told)
    if (wrong := ended.wrong) is not None:
        return Outcome("wrong", wrong)
    return Outcome("refused" if ended.code else "done", f"{told}{said}")


def _in_child(arguments: list[str], out: IO[bytes]) -> tuple[int, str]:
    """Run `l4 ARGUMENTS` in a child process; return its status, as waitpid does, and its stderr."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        with open(reader, "rb") as err:  # noqa: PTH123
            told = err.read()  # up to the end of the watcher, which explains a crash
        return os.waitpid(child, 0)[1], told.decode("utf-8", "replace")
    try:
        with tempfile.TemporaryFile() as rows:
            rows.write(_ROW)
            rows.seek(0)
            for number, fd in enumerate((rows.fileno(), out.fileno(), writer)):
                os.dup2(fd, number)
        os.close(reader)
        os.close(writer)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.argv = ["l4", *arguments]
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_MOST_SECONDS)
        _run_main()
    finally:
        os.abort()  # an unexpected exception counts as a crash


def _run_main() -> None:
    from l4cli import app

    code: object = 0
    try:
        app.main()
    except SystemExit as ended:
        code = ended.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)
