"""Functions that do what no tool should: each is the call's result, and the next call is served."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from l4cli.chat.tools.toolbox import Toolbox, ToolResult
from l4cli.prompt.tool_calls import ToolCall

FUNCTIONS = '''
import os, signal, subprocess, sys, time


def write(text: str) -> str:
    """Write to every open descriptor."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2:
                os.write(int(name), text.encode("latin-1"))
        except OSError:
            pass
    return "written"


def run(code: str) -> object:
    """Run any code; its `result` is the result."""
    values = {}
    exec(code, globals(), values)
    return values.get("result", "no result")
'''
_RESERVED = '{"error": "the call wrote to the pipe that is reserved for l4\'s replies"}'


@pytest.fixture(scope="module")
def toolbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toolbox]:
    file = tmp_path_factory.mktemp("wild") / "tools.py"
    file.write_text(FUNCTIONS)
    with Toolbox(file) as toolbox:
        yield toolbox


def run(toolbox: Toolbox, code: str) -> ToolResult:
    return toolbox.run(ToolCall("run", {"code": code}))


def assert_serves(toolbox: Toolbox) -> None:
    assert run(toolbox, "result = 6 * 7").text == "42"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds descriptors in /proc")
@pytest.mark.parametrize(
    "text",
    [
        "junk\n", "no line", "null\n", "[1]\n", "{}\n", '{"result": 5}\n', '{"result": "forged"}\n',
        '{"number": 0, "result": "stale"}\n', "[" * 100_000 + "\n", "\xff\xfe\n",
    ],
)  # fmt: skip
def test_what_is_written_among_the_replies_is_no_reply(toolbox: Toolbox, text: str) -> None:
    assert toolbox.run(ToolCall("write", {"text": text})).text == _RESERVED
    assert_serves(toolbox)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("os.dup2(os.open(os.devnull, 1), 2)", "no result"),
        ("os.close(1), os.close(2)", "no result"),
        ("sys.stdout.close(), sys.stderr.close()", "no result"),
        ("sys.stdout = sys.stderr = None", "no result"),
        ("result = 'a\\ud800b'", "a?b"),
        ("result = {(1, 2): {3}}", '{"1,2": [3]}'),
        ("result = iter(())", "[]"),
        ("result = {'of': map(str, range(2))}", '{"of": ["0", "1"]}'),
        ("os.closerange(3, 256)", '{"error": "the call ended its process (exit code 1)"}'),
        ("os.kill(os.getpid(), 40)", '{"error": "the call ended its process (signal 40)"}'),
        ("os.fork() or time.sleep(99); os._exit(0)",
         '{"error": "the call ended its process (exit code 0)"}'),
        ("result = []; result.append(result)",
         '{"error": "ValueError: Circular reference detected"}'),
    ],
)  # fmt: skip
def test_the_call_has_a_result(toolbox: Toolbox, code: str, text: str) -> None:
    assert run(toolbox, code).text == text
    assert_serves(toolbox)


def test_an_exception_that_cannot_say_what_it_is(toolbox: Toolbox) -> None:
    code = "class Mute(Exception):\n def __str__(self): raise OSError\nraise Mute"
    assert run(toolbox, code).text == '{"error": "Mute"}'


def test_a_fork_that_returns_does_not_reply_a_second_time(toolbox: Toolbox) -> None:
    assert run(toolbox, "result = os.fork() > 0").text == "true"
    time.sleep(0.2)  # the fork has had its chance
    assert_serves(toolbox)


@pytest.mark.parametrize(
    "code",
    [
        "import itertools; result = itertools.count()",
        "import itertools; result = {'deep': itertools.repeat('x' * 1000)}",
        "result = ['x' * 1000] * (1 << 20)",
    ],
)
def test_an_endless_or_huge_result_is_read_as_far_as_it_is_shown(
    toolbox: Toolbox, code: str
) -> None:
    result = run(toolbox, code)
    assert not result.is_error
    assert result.text.endswith("… [cut: the first 16,000 characters]")
    assert len(result.text) < 16_100


@pytest.mark.slow
def test_signals_that_are_ignored_and_a_process_that_stops_itself(tmp_path: Path) -> None:
    file = tmp_path / "tools.py"
    file.write_text(FUNCTIONS)
    with Toolbox(file, timeout=2) as toolbox:
        deaf = "for s in {*range(1, 32)} - {9, 19}: signal.signal(s, signal.SIG_IGN)\n"
        for code in (deaf + "time.sleep(99)", "os.kill(os.getpid(), signal.SIGSTOP)"):
            assert run(toolbox, code).text == '{"error": "the call took more than 2 s"}'
        assert_serves(toolbox)


def test_what_a_function_started_ends_with_the_tools(tmp_path: Path) -> None:
    file = tmp_path / "tools.py"
    file.write_text(FUNCTIONS)
    with Toolbox(file) as toolbox:
        pid = int(run(toolbox, "result = subprocess.Popen(['sleep', '99']).pid").text)
    for _ in range(100):
        if _is_gone(pid):
            break
        time.sleep(0.05)
    assert _is_gone(pid)


def _is_gone(pid: int) -> bool:
    """Whether a process has ended; a zombie counts as ended."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (ProcessLookupError, FileNotFoundError):
        return True


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize(
    "start",
    [
        "result = subprocess.Popen(['sleep', '600'], start_new_session=True).pid",
        "result = int(subprocess.check_output(\n"
        "    ['sh', '-c', 'setsid sleep 600 </dev/null >/dev/null 2>&1 & echo $!']))",
        "pid = os.fork()\nif not pid:\n    os.setsid()\n    time.sleep(600)\nresult = pid",
        "result = int(subprocess.check_output(\n"
        "    ['env', '-i', 'sh', '-c', 'setsid sleep 600 </dev/null >/dev/null 2>&1 & echo $!']))",
        "out, give = os.pipe()\nif not os.fork():\n    os.setsid()\n    pid = os.fork()\n"
        "    if not pid:\n"
        "        os.execve('/bin/sleep', ['sleep', '600'], {})\n"
        "    os.write(give, str(pid).encode())\n    os._exit(0)\nos.wait()\n"
        "result = int(os.read(out, 20))",
    ],
    ids=["session", "setsid", "fork", "other environment", "double fork"],
)
def test_a_process_that_a_tool_detached_ends_with_the_tools(tmp_path: Path, start: str) -> None:
    file = tmp_path / "tools.py"
    file.write_text(FUNCTIONS)
    with Toolbox(file) as toolbox:
        pid = int(run(toolbox, start).text)
        assert is_alive(pid)
    for _ in range(500):  # it has been killed, which may take the system a moment
        if is_alive(pid):
            time.sleep(0.02)
    assert not is_alive(pid)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), 11)", "os.killpg(0, 9)"])
def test_what_was_detached_ends_when_a_call_ends_its_process(
    toolbox: Toolbox, tmp_path: Path, end: str
) -> None:
    note = tmp_path / "pid"
    command = f"env -i setsid sh -c 'echo $$ > {note}; exec sleep 600' </dev/null &"
    note.touch()
    code = f"os.system({command!r})\nwhile not os.path.getsize({str(note)!r}): pass\n{end}"
    assert "the call ended its process" in run(toolbox, code).text
    assert not is_alive(int(note.read_text()))
    assert_serves(toolbox)


def is_alive(pid: int) -> bool:
    """Whether a process runs; not one that has ended and that nobody has asked about yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
