"""Tools in their own process: their schemas for the model, and every way that a call can go."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from l4cli.chat.tools.functions import ToolFileError, load_tools
from l4cli.chat.tools.permission import permission_of
from l4cli.chat.tools.toolbox import Toolbox, ToolResult, shown
from l4cli.errors import InputError
from l4cli.prompt.tool_calls import ToolCall

FUNCTIONS = '''
from __future__ import annotations
import dataclasses, datetime, os, subprocess, sys, time
from typing import Annotated, Literal
from pydantic import Field

calls = 0


@dataclasses.dataclass
class Place:
    """Where."""
    city: str
    country: str = "Norway"


def get_weather(city: str, days: int = 1, unit: Literal["C", "F"] = "C") -> dict:
    """Tell the weather.

    Only for today and what comes.

    Args:
        city: the city
        days: how many days,
            from today
    """
    print("asking for", city)
    return {"city": city, "celsius": 3 * days, "sky": "helt grå ☁"}


def visit(place: Place, schema: list[datetime.date], copy: Annotated[int, Field(ge=1)] = 1) -> str:
    """Go there.

    :param schema: on which days
    """
    return f"{place.city}, {place.country}: {schema[0]:%d.%m.}"


async def later(n: int):
    """Twice as much."""
    return n * 2


def count() -> int:
    """Count the calls since the start."""
    global calls
    calls += 1
    return calls


def fail() -> None:
    """Raise."""
    raise ValueError("no\\nsuch thing")


def leave() -> None:
    """Leave."""
    sys.exit(3)


def crash() -> None:
    """Crash."""
    print("about to", flush=True)
    os.kill(os.getpid(), 11)


def hang(file: str) -> None:
    """Hang, with a child that hangs too."""
    child = subprocess.Popen(["sleep", "600"])
    with open(file, "w") as out:
        out.write(str(child.pid))
    time.sleep(600)


def flood() -> str:
    """Print and say more than anyone reads."""
    for _ in range(20_000):
        print("x" * 100)
    print("the end")
    return "y" * 1_000_000


def read() -> str:
    """Read what nobody types."""
    return sys.stdin.read() + os.fdopen(os.dup(0)).read() + "nothing"


def _helper(x): ...
'''


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


@pytest.fixture(scope="module")
def toolbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toolbox]:
    with Toolbox(write(tmp_path_factory.mktemp("tools") / "tools.py", FUNCTIONS)) as toolbox:
        yield toolbox


def run(toolbox: Toolbox, name: str, **arguments: object) -> ToolResult:
    call = ToolCall(name, arguments)
    return toolbox.check(call) or toolbox.run(call)


def error(result: ToolResult) -> str:
    assert result.is_error
    return str(json.loads(result.text)["error"])


def test_hints_and_docstrings_become_the_function_list(toolbox: Toolbox) -> None:
    assert toolbox.schemas[0] == {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Tell the weather.\nOnly for today and what comes.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "the city"},
                    "days": {"type": "integer", "description": "how many days,\nfrom today"},
                    "unit": {"type": "string", "enum": ["C", "F"]},
                },
                "required": ["city"],
            },
        },
    }
    assert list(toolbox.schemas[0]["function"]["parameters"]) == ["type", "properties", "required"]
    parameters = toolbox.schemas[1]["function"]["parameters"]
    assert parameters["properties"]["schema"]["description"] == "on which days"
    assert parameters["properties"]["copy"] == {"type": "integer", "minimum": 1}
    assert parameters["$defs"]["Place"]["required"] == ["city"]
    assert "title" not in json.dumps(toolbox.schemas)
    assert "_helper" not in toolbox.names


def test_results_and_what_was_printed(toolbox: Toolbox) -> None:
    result = run(toolbox, "get_weather", city="Oslo", days=2)
    assert result.text == '{"city": "Oslo", "celsius": 6, "sky": "helt grå ☁"}'
    assert (result.is_error, result.printed) == (False, "asking for Oslo")
    assert run(toolbox, "later", n=4).text == "8"
    assert run(toolbox, "read").text == "nothing"


def test_arguments_become_what_the_hints_ask_for(toolbox: Toolbox) -> None:
    result = run(toolbox, "visit", place={"city": "Bergen"}, schema=["2026-11-23"])
    assert result.text == "Bergen, Norway: 23.11."


@pytest.mark.parametrize(
    ("name", "arguments", "complaint"),
    [
        ("get_weather", {}, "city is required"),
        ("get_weather", {"city": 3}, "city: input should be a valid string"),
        ("get_weather", {"city": "x", "town": "y"}, "there is no argument town"),
        ("get_weather", {"city": "x", "unit": "K"}, "unit: input should be 'C' or 'F'"),
        ("visit", {"place": {}, "schema": []}, "place.city is required"),
        ("visit", {"place": {"city": "x"}, "schema": [], "copy": 0}, "copy: input should be gr"),
        ("get_wether", {}, "there is no function get_wether; there are: get_weather, visit"),
        ("_helper", {"x": 1}, "there is no function _helper"),
    ],
)
def test_what_does_not_fit_is_said_and_does_not_run(
    toolbox: Toolbox, name: str, arguments: dict[str, object], complaint: str
) -> None:
    refused = toolbox.check(ToolCall(name, arguments))
    assert refused is not None
    assert error(refused).startswith(complaint)


def test_an_exception_is_a_result_with_its_line(toolbox: Toolbox) -> None:
    result = run(toolbox, "fail")
    assert error(result) == "ValueError: no such thing"
    line = FUNCTIONS.splitlines().index('    raise ValueError("no\\nsuch thing")') + 1
    assert result.where == f"{toolbox.file}, line {line}"
    assert error(run(toolbox, "leave")) == "SystemExit: 3"


def test_a_crash_takes_only_the_tools_along(toolbox: Toolbox) -> None:
    assert run(toolbox, "count").text == "1"
    assert run(toolbox, "count").text == "2"
    crashed = run(toolbox, "crash")
    assert error(crashed) == "the call ended its process (SIGSEGV)"
    assert crashed.printed == "about to"
    assert run(toolbox, "count").text == "1"  # a new process


def test_floods_are_dammed(toolbox: Toolbox) -> None:
    result = run(toolbox, "flood")
    assert result.text.endswith("… [cut: the first 16,000 of 1,000,000 characters]")
    assert len(result.text) < 17_000
    assert len(result.printed) <= 2_000
    assert result.printed.endswith("the end")


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_for(condition: object, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:  # type: ignore[operator]
        time.sleep(0.01)
    assert condition()  # type: ignore[operator]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks processes up in /proc")
def test_what_hangs_is_killed_with_all_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with Toolbox(write(tmp_path / "tools.py", FUNCTIONS), timeout=3) as toolbox:
        result = run(toolbox, "hang", file=str(pid))
        assert error(result) == "the call took more than 3 s"
        assert result.exit_code == 0
        wait_for(lambda: gone(int(pid.read_text())))
        pid.unlink()

        def press_ctrl_c() -> None:
            wait_for(lambda: pid.exists() and pid.read_text())
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=press_ctrl_c).start()
        result = run(toolbox, "hang", file=str(pid))
        assert (error(result), result.exit_code) == ("stopped by the user", 130)
        wait_for(lambda: gone(int(pid.read_text())))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("def f(:\n", "tools.py, line 1: SyntaxError"),
        ("import nowhere_to_be_found\n", "tools.py, line 1: ModuleNotFoundError"),
        ("\nraise SystemExit(0)\n", "tools.py, line 2: SystemExit: 0"),
        ("x = 1\n", "tools.py: no public functions in it"),
        ("def f(): ...\n", "tools.py, line 1: f has no docstring"),
        ('def f(x):\n    "F."\n', "tools.py, line 1: f: its parameter 'x' has no type hint"),
        (
            'def f(*x: int):\n    "F."\n',
            "line 1: f takes *x: int; a tool's arguments are all passed",
        ),
        (
            'def f(x: "Nix"):\n    "F."\n',
            "line 1: f has a type hint that cannot be read: name 'Nix'",
        ),
        (
            'import threading\ndef f(x: threading.Thread):\n    "F."\n',
            "line 2: f has a type hint that no JSON value fits",
        ),
        ("\0", "SyntaxError"),
    ],
)
def test_a_file_that_is_no_use_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, complaint: str
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    # Directly, not in the child process, which takes longer to start.
    with pytest.raises(ToolFileError) as raised:
        load_tools(write(tmp_path / "tools.py", text))
    assert complaint in str(raised.value)
    assert str(raised.value).startswith(str(tmp_path))
    assert "\n" not in str(raised.value)


def test_a_relative_path_gets_its_line_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    write(tmp_path / "bad.py", "x = 1\ndef f(:\n")
    with pytest.raises(ToolFileError, match=r"^bad\.py, line 2: SyntaxError: "):
        load_tools(Path("bad.py"))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("y\n", "yes"), ("YES", "yes"), ("\n", "no"), ("n", "no"), ("a", "always"), ("maybe", None)],
)
def test_only_a_clear_answer_is_a_permission(typed: str, meant: str | None) -> None:
    assert permission_of(typed) == meant


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("def f(:\n", r"tools\.py, line 1: SyntaxError: "),
        (
            "print('so far', flush=True)\nimport os\nos._exit(7)\n",
            r"\(exit code 7\) after printing: so far",
        ),
    ],
)
def test_a_file_that_does_not_load_is_an_input_error(
    tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        Toolbox(write(tmp_path / "tools.py", text))


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tools\.py: no such file"):
        Toolbox(tmp_path / "tools.py")
    with pytest.raises(InputError, match="not a file"):
        Toolbox(tmp_path)
    with pytest.raises(InputError, match=r"must end in \.py"):
        Toolbox(write(tmp_path / "tools.txt", FUNCTIONS))


def test_calls_are_shown_as_python_writes_them() -> None:
    call = ToolCall("f", {"a": "grå \x1b[2J", "b": True, "c": None, "d": [1, {"e": 0.5}]})
    assert shown(call) == 'f(a="grå \\u001b[2J", b=True, c=None, d=[1, {"e": 0.5}])'
