"""`l4 chat` with one question: through pipes, with files, and with errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_support import RECITED, write_reciter
from conftest import L4

from l4cli.commands.one_answer import cut_off
from l4cli.engine.answer import Answer

ARGS = ("--ctx", "2048", "-t", "1")


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers RECITED once."""
    return write_reciter(tmp_path_factory.mktemp("reciter"), ends=True)


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that repeats RECITED without end."""
    return write_reciter(tmp_path_factory.mktemp("reciter"))


def test_a_pipe_is_the_question(l4: Callable[..., Any], brief: Path) -> None:
    done = l4("chat", "-m", brief, *ARGS, stdin="hi\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{RECITED}\n", "")


def test_documents_come_before_the_question(
    l4: Callable[..., Any], brief: Path, tmp_path: Path
) -> None:
    """File, pipe and prompt together have as many tokens as the same texts joined by hand."""
    (tmp_path / "a.txt").write_text("file\n", "utf-8")
    overflow = l4(
        "chat", "-m", brief, "--ctx", "512", "-t", "1",
        "-f", tmp_path / "a.txt", "-p", "x" * 600, stdin="piped\n",
    )  # fmt: skip
    joined = l4(
        "chat", "-m", brief, "--ctx", "512", "-t", "1", stdin="file\n\npiped\n\n" + "x" * 600
    )
    assert overflow.returncode == joined.returncode == 2
    assert "needs" in overflow.stderr
    assert overflow.stderr == joined.stderr
    assert overflow.stdout == ""


def test_a_prompt_that_does_not_fit_is_told_no_commands_of_a_chat(l4: L4, endless: Path) -> None:
    done = l4("chat", "-m", endless, "--ctx", "256", "-p", "x" * 600)
    assert done.returncode != 0
    assert "the context holds 256: shorten the prompt, or raise --ctx" in done.stderr
    assert "/undo" not in done.stderr


def test_a_cut_off_answer_is_said_on_stderr(l4: Callable[..., Any], endless: Path) -> None:
    done = l4("chat", "-m", endless, *ARGS, "-p", "hi", "-n", "8")
    assert (done.returncode, done.stdout) == (0, f"{RECITED[:8]}\n")
    assert done.stderr == "l4: the answer was cut off after 8 tokens; -n allows longer ones\n"


@pytest.mark.parametrize(
    ("text", "repeats"),
    [
        ("I know it. " + "- Send a mail to Anna.\n\n" * 9 + "- Send a ", True),
        ("alezh" + "zh" * 50, True),
        ("The price is 6" + "id for the price 6" * 9, True),
        ("| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |\n| 5 | 6 |\n", False),
        ("Title\n" + "-" * 40, False),
        ("a" * 30, False),
        ("", False),
    ],
)
def test_an_answer_that_repeats_itself_is_not_advised_to_go_on(text: str, repeats: bool) -> None:
    said = cut_off(Answer(text, list(range(1024))))
    assert "cut off after 1,024 tokens" in said
    assert ("-n allows longer ones" in said) is not repeats
    assert ("repeated itself" in said) is repeats


def test_a_cut_never_goes_through_a_character(l4: Callable[..., Any], endless: Path) -> None:
    done = l4("chat", "-m", endless, *ARGS, "-p", "hi", "-n", "9")  # the 9th byte begins the é
    assert done.stdout == f"{RECITED[:8]}\n"


@pytest.mark.parametrize(
    ("args", "stdin", "complaint"),
    [
        ([], "", "stdin is empty"),
        ([], b"\x7fELF\0", "stdin: a binary file"),
        ([], b"caf\xe9", "stdin: not UTF-8 at byte 4"),
        (["-p", " "], "", "-p is empty"),
        (["-p", "hi", "-f", "nowhere.txt"], "", "nowhere.txt: No such file"),
        (["-p", "hi", "--system", "@nowhere.txt"], "", "nowhere.txt"),
        (["-p", "hi", "--top-p", "3"], "", "'--top-p': it must be"),
        (["-p", "hi", "--promt", "x"], "", "--promt"),
        (["-p", "hi", "-m", "nowhere.gguf"], "", "no such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    l4: Callable[..., Any], brief: Path, args: list[str], stdin: str | bytes, complaint: str
) -> None:
    done = l4("chat", "-m", brief, *ARGS, *args, stdin=stdin)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert done.stderr.startswith("l4: ")
    assert done.stderr.count("\n") == 1


def test_ctrl_c_keeps_what_was_said_and_exits_130(endless: Path) -> None:
    command = [sys.executable, "-m", "l4cli", "chat", "-m", str(endless), "--ctx", "128k"]
    with subprocess.Popen(
        [*command, "-t", "1", "-p", "hi"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,  # with a buffer, communicate() would lose bytes that were read ahead
    ) as process:
        assert process.stdout is not None
        begun = b""
        while len(begun) < len(RECITED.encode()):
            begun += process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        rest, error = process.communicate(timeout=60)
    text = (begun + rest).decode()
    assert process.returncode == 130
    assert text.endswith("\n")
    assert text[:-1] == (RECITED * (len(text) // len(RECITED) + 1))[: len(text) - 1]
    assert error == b""


def test_questions_through_pipes_go_on_in_a_session(
    l4: Callable[..., Any], endless: Path, tmp_path: Path
) -> None:
    none = l4("chat", "-c", "-p", "and?", "-m", endless, *ARGS)
    assert (none.returncode, none.stdout) == (2, "")
    assert "no session to continue yet" in none.stderr
    config = tmp_path / "xdg-config" / "l4" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[chat]\nmodel = "{endless}"\nmax-tokens = 8\nsession = "tales"\n')
    for question in ("hi", "and?"):
        done = l4("chat", "-p", question, *ARGS)
        assert (done.returncode, done.stdout) == (0, f"{RECITED[:8]}\n")
    # -c and the session of config.toml contradict each other.
    assert l4("chat", "-c", "-p", "x", *ARGS).returncode == 2
    (path,) = (tmp_path / "xdg-state" / "l4" / "sessions").iterdir()
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    said = [record["content"] for record in records if "role" in record]
    assert (path.name, said) == ("tales.jsonl", ["hi", RECITED[:8], "and?", RECITED[:8]])


def test_a_reader_that_leaves_is_no_error(endless: Path) -> None:
    command = f"'{sys.executable}' -m l4cli chat -m '{endless}' -t 1 --ctx 128k -p hi | head -c 4"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"the ", b"")


def test_a_conversation_needs_a_terminal_for_its_answers(brief: Path) -> None:
    ours, theirs = os.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "l4cli", "chat", "-m", str(brief)],
        stdin=theirs,
        capture_output=True,
        check=False,
        timeout=60,
    )
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 2
    assert b"needs a terminal" in done.stderr


def test_help_fits_80_columns(l4: Callable[..., Any]) -> None:
    done = l4("chat", "--help", env={**os.environ, "COLUMNS": "80"})
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert 'cat notes.md | l4 chat -p "Summarise these notes"' in done.stdout


def test_help_loads_neither_model_nor_terminal_code() -> None:
    code = (
        "import sys; import l4cli.commands.chat; "
        "print([m for m in ('numpy', 'llama_cpp', 'prompt_toolkit', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_one_answer_is_a_value(l4: L4, tiny_gguf: Path, tmp_path: Path) -> None:
    """Even a model with random weights answers in the form that --schema gives."""
    short = ["chat", "-m", tiny_gguf, "-t", "1", "-p", "hello", "--temperature", "0"]
    done = l4(*short, "--schema", "good bool, sure bool", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said["parsed"].keys() == {"good", "sure"}
    assert (json.loads(said["text"]), said["finish_reason"]) == (said["parsed"], "stop")
    assert said["usage"].keys() == {"prompt_tokens", "cached_tokens", "completion_tokens"}
    plain = l4(*short, "--schema", "good bool, sure bool")
    assert json.loads(plain.stdout) == said["parsed"]
    cut = l4(*short, "--schema", "name", "--json", "-n", "2")
    assert (cut.returncode, json.loads(cut.stdout)["parsed"]) == (1, None)
    named = l4(*short, "--json", "-n", "4", "--session", "kept")
    assert "parsed" not in json.loads(named.stdout)
    for more, message in (
        (["--schema", "a integr"], "no type 'integr'; did you mean int?"),
        (["--schema", "a", "--tools", tmp_path / "tools.py"], "cannot be combined"),
    ):
        refused = l4(*short, *more)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert message in refused.stderr


def test_answers_about_documents_are_values(l4: L4, tiny_gguf: Path, tmp_path: Path) -> None:
    document = tmp_path / "a.txt"
    document.write_text("hello the world " * 30)
    command = ["ask", document, "is it good?", "-m", tiny_gguf, "-t", "1", "--no-cache"]
    done = l4(*command, "--schema", "good bool", "--temperature", "0", "--json")
    assert done.returncode == 0, done.stderr
    (answer,) = json.loads(done.stdout)["answers"]
    assert list(answer["parsed"]) == ["good"]
    assert json.loads(answer["answer"]) == answer["parsed"]
