"""Every option and argument of a command with values that it does not expect, by seed.

The options come from the commands themselves, so that a new option joins by itself. As a program,
this module runs command lines, each in a fork of one process that has imported everything: that
takes a tenth of the time.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import pkgutil
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import values

NUMBERS = (
    *(text for text in values.NUMBERS if text[0] not in '"[{'),
    *("1e400", "-1e400", "inf", "-inf", "nan", "0x10", "1_000", "\u0661\u0662", "\u00b2", " 3 "),
    *("512", "3k", "1M", "9999999999999999G", "0.0000001M", "1,2,3", "0,0", "1,,2", "auto", "all"),
    *("-9223372036854775808", "-2147483649", "9" * 400 + "k", "1e-400,1e-400", "inf,1", "nan,1"),
)
TEXTS = (
    *("", " ", "x" * 300, "x" * 100_000, "a/" * 3000, "\\0", "%00", "%s%n{}", "\x01\x02\x7f"),
    *("\x1b[31mred", "\x1b]52;c;eA==\x07", "a\nb", "\r", "\u202eabc", "\u0085", "\ufeff", "\u2028"),
    *("\udcff", "a\udc80\udcfe", "\U0001f642", "a\u0301" * 40, "-", "--", "@", "@@", "@nowhere"),
    *("/", ".", "..", "~", "~nobody/x", "/dev/null", "/dev/zero", "/dev/stdout", "/proc/self/mem"),
    *("@/dev/null", "folder", "@folder", "fifo", "@fifo", "http://127.0.0.1:9/x", "a:b:c", "a=b"),
    *("*", "[", "(", "(" * 5000, "{{ 1 / 0 }}", "{% for a in b %}", "=", ",", ":", "rows.jsonl"),
    *("notes.md", "@notes.md", "null", "{}", "<|eot|>", "../../x", "a" * 254 + ".gguf", "u/repo"),
)
_SHORT = {"--model": "MODEL", "--max-tokens": "2", "--threads": "1"}
# Commands that do little on the tiny model. Options that are tried out are put in place of these.
_USUAL: dict[str, dict[str, str | None]] = {
    "run": {"": "rows.jsonl", "--ctx": "512", **_SHORT},
    "chat": {"--prompt": "hi", "--ctx": "512", **_SHORT},
    "ask": {"": "notes.md", "--question": "what", **_SHORT},
    "bench": {
        "": "MODEL",
        "--depth": "0",
        "--batch": "1",
        "--ubatch": "64",
        "--prompt": "8",
        "--gen": "2",
        "--repeat": "1",
        "--seconds": "1",
        "--threads": "1",
    },
    "eval": {"": "MODEL", "--text": "notes.md", "--ctx": "8", "--chunks": "1", "--threads": "1"},
    "experts": {"": "MODEL", "--prompt": "hi", "--ctx": "64", "--threads": "1"},
    "imatrix": {
        "": "MODEL",
        "--text": "notes.md",
        "--ctx": "8",
        "--chunks": "1",
        "--out": "out.gguf",
        "--threads": "1",
    },
    "ctx-test": {"--lengths": "300", "--depths": "50", "--tasks": "literal", **_SHORT},
    "plan": {"": "MODEL"},
    "convert": {"": "CHECKPOINT", "--type": "Q8_0", "--out": "out.gguf"},
    "quantize": {"": "MODEL", "--type": "Q8_0", "--out": "out.gguf"},
    "info": {"": "MODEL"},
}
# What these ask for may truly take long. Then Ctrl-C must end it.
_ASK_FOR_WORK = {
    *(
        "--question",
        "--repeat",
        "--samples",
        "--seconds",
        "--gen",
        "--prompt",
        "--max-tokens",
        "--depth",
    ),
    *("--batch", "--lengths", "--depths"),
}
SECONDS = 30.0  # after which a command hangs, even on a machine that has much else to do
_LONG = 3.0  # seconds after which Ctrl-C ends a command that may be long
_PARTING = 8.0  # seconds that a command may take to end after Ctrl-C
_BUG, _TRACEBACK = "this is a bug in l4", "Traceback (most recent call last)"


@dataclass(frozen=True)
class Member:
    """A command line. `may_be_long`: whether it may ask for long work."""

    arguments: tuple[str, ...]
    may_be_long: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a command ended: the status as `subprocess` gives it."""

    arguments: tuple[str, ...]
    status: int
    seconds: float
    is_interrupted: bool
    stderr: str

    @property
    def fault(self) -> str:
        """What is wrong with it; "" if nothing is."""
        lines = self.stderr.strip("\n").split("\n")
        own = [line for line in lines if " tokens to read" not in line]  # what ctx-test says first
        if self.status < 0:
            return f"ended by {signal.Signals(-self.status).name}"
        if _BUG in self.stderr or _TRACEBACK in self.stderr:
            return lines[-1][:300]
        if self.is_interrupted and self.status != 130:
            return f"took {self.seconds:.0f} s, and ended with {self.status} by Ctrl-C"
        if self.status not in (0, 1, 2) and not self.is_interrupted:
            return f"exit code {self.status}"
        if self.status == 2 and not (len(own) == 1 and own[0].startswith("l4: ")):
            return f"exit code 2 with {len(lines)} lines: {self.stderr[:300]!r}"
        if self.status == 1 and not any(line.startswith("l4: ") for line in lines):
            return f"exit code 1 without a reason: {self.stderr[:300]!r}"
        return ""


class Makers:
    """Makes command lines in which one option or argument, sometimes two, has an odd value."""

    def __init__(self, model: str, checkpoint: str) -> None:
        self._places = {"MODEL": model, "CHECKPOINT": checkpoint}
        self._options = {name: list(_valued(name)) for name in _USUAL}
        self._all = [(name, option) for name, found in self._options.items() for option in found]

    def make(self, seed: int) -> Member:
        """The command line with this seed."""
        dice = random.Random(seed)
        name, option = dice.choice(self._all)
        odd = {option: _value(dice)}
        if dice.random() < 0.2:
            odd[dice.choice(self._options[name])] = _value(dice)
        chosen = {**_USUAL[name], **odd}
        argument = chosen.pop("", None)
        places = self._places
        line = [name, *(f"{key}={places.get(value, value)}" for key, value in chosen.items())]
        if argument is not None:
            line += ["--", places.get(argument, argument)]
        # A FIFO waits until somebody writes into it; a folder may hold the whole disk.
        waits = not {"fifo", "/", "..", "~"}.isdisjoint((argument, *chosen.values()))
        return Member(tuple(line), waits or not _ASK_FOR_WORK.isdisjoint(odd))


def members(first: int, count: int, model: str, checkpoint: str) -> Iterator[Member]:
    """The command lines with `count` seeds from the first."""
    return map(Makers(model, checkpoint).make, range(first, first + count))


def _valued(name: str) -> Iterator[str]:
    """The longest names of a command's options that take a value, and "" for its argument."""
    from typer.main import get_command

    from l4cli.app import app

    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    for parameter in commands[name].params:
        if parameter.param_type_name == "argument":
            yield ""
        elif not parameter.is_flag:
            yield max(parameter.opts, key=len)


def _value(dice: random.Random) -> str:
    return dice.choice(dice.choice((NUMBERS, TEXTS)))


def outcomes(members: Iterable[Member], folder: Path) -> Iterator[Outcome]:
    """Run command lines, each in a new folder within `folder`."""
    jobs = folder / "jobs"
    jobs.write_text("".join(json.dumps(asdict(member)) + "\n" for member in members))
    path = os.pathsep.join((str(Path(__file__).parent), *filter(None, sys.path)))
    hub = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    with (
        jobs.open() as file,
        subprocess.Popen(
            [sys.executable, __file__, folder],
            stdin=file,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **hub, "PYTHONPATH": path},
        ) as process,
    ):
        assert process.stdout
        for line in process.stdout:
            yield Outcome(**json.loads(line))
    assert process.returncode == 0


def _serve(folder: Path) -> None:
    import_everything()
    for line in sys.stdin:
        job = json.loads(line)
        outcome = run(Member(tuple(job["arguments"]), job["may_be_long"]), folder)
        print(json.dumps(asdict(outcome)), flush=True)  # noqa: T201


def import_everything(without: str | None = None) -> None:
    """Import what commands import, and build the commands, so that forks of this process need not.

    Typer builds all commands at every start, which takes longer than most members.

    without: a package that is left out.
    """
    import typer.main

    import convert
    import l4cli

    for package in (convert, l4cli):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            is_left_out = without is not None and module.name.startswith(without)
            if not module.name.endswith("__main__") and not is_left_out:
                importlib.import_module(module.name)
    from l4cli.app import app

    typer.main.get_command = functools.cache(typer.main.get_command)  # type: ignore[assignment]
    typer.main.get_command(app)


def run(member: Member, folder: Path) -> Outcome:
    """Run a command line in a fork of this process, in a new folder within `folder`."""
    cwd = Path(tempfile.mkdtemp(dir=folder))
    _furnish(cwd)
    with (cwd / ".stderr").open("w+b") as errors:
        status, seconds, is_interrupted = _run(member, cwd, errors.fileno())
        errors.seek(0)
        said = errors.read(100_000).decode("utf-8", "replace")
    shutil.rmtree(cwd, ignore_errors=True)
    return Outcome(member.arguments, status, seconds, is_interrupted, said)


def _furnish(cwd: Path) -> None:
    (cwd / "rows.jsonl").write_text('{"prompt": "hello"}\n')
    (cwd / "notes.md").write_text("The key is under the mat.\n")
    (cwd / "folder").mkdir()
    os.mkfifo(cwd / "fifo")


def _run(member: Member, cwd: Path, errors: int) -> tuple[int, float, bool]:
    began, is_interrupted = time.monotonic(), False
    pid = os.fork()
    if pid == 0:
        _be_l4(list(member.arguments), cwd, errors)
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        seconds = time.monotonic() - began
        if ended:
            code = os.waitstatus_to_exitcode(status)
            is_late = seconds > SECONDS and not member.may_be_long
            return code, seconds, is_interrupted or is_late
        if seconds > _LONG and member.may_be_long and not is_interrupted:
            os.kill(pid, signal.SIGINT)
            is_interrupted = True
        if seconds > SECONDS + _PARTING:
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.01)


def _be_l4(arguments: list[str], cwd: Path, errors: int) -> None:
    """Be the command in this process, and end."""
    code: Any = 99
    try:
        os.setsid()
        os.chdir(cwd)
        os.environ["HOME"] = str(cwd)  # what ~ stands for
        null = os.open(os.devnull, os.O_RDWR)
        for fd, target in ((0, null), (1, null), (2, errors)):
            os.dup2(target, fd)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["l4", *arguments]
        from l4cli.app import main

        main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        atexit._run_exitfuncs()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
