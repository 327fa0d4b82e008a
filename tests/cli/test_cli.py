"""The `l4` command as a whole: help, start-up, errors, configuration, the public API."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import L4

import convert
import l4cli
from l4cli import app, errors


def test_help_names_every_command_and_fits_80_columns(l4: L4) -> None:
    narrow = _environment(COLUMNS="80")
    overview = l4("--help", env=narrow)
    commands = (
        "run", "chat", "ask", "docs", "ctx-test", "convert", "info",
        "plan", "bench", "models", "pull", "rm", "doctor",
    )  # fmt: skip
    code = (
        "from l4cli.app import app\n"
        f"for name in {commands}: app([name, '--help'], prog_name='l4', standalone_mode=False)"
    )
    each = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=narrow
    ).stdout
    for command in commands:
        assert f" {command} " in overview.stdout
        assert f"Usage: l4 {command} " in each
    assert max(map(len, (overview.stdout + each).splitlines())) <= 80


def test_help_loads_neither_numpy_nor_llama_cpp() -> None:
    code = (
        "import sys\nfrom l4cli.app import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "heavy = {'numpy', 'llama_cpp', 'jinja2', 'gguf', 'prompt_toolkit'} & sys.modules.keys()\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_version(l4: L4) -> None:
    assert l4("--version").stdout == f"l4 {l4cli.__version__}\n"


def test_an_unknown_command_is_one_line(l4: L4) -> None:
    done = l4("tlak")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "l4: no such command: tlak; `l4 --help` lists the commands\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(l4: L4, shell: str) -> None:
    environment = _environment(_L4_COMPLETE=f"source_{shell}", SHELL=f"/bin/{shell}")
    assert "l4" in l4(env=environment).stdout


def test_config_file_gives_defaults_under_flags(
    l4: L4, tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "l4" / "config.toml"
    config.parent.mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    config.write_text(f'[run]\nmodel = "{tiny_gguf}"\nmax-tokens = 2\nctx = "1k"\n')
    row = '{"prompt": "hello", "temperature": 0}'
    assert json.loads(l4("run", stdin=row).stdout)["usage"]["completion_tokens"] <= 2
    assert json.loads(l4("run", "-n", "1", stdin=row).stdout)["usage"]["completion_tokens"] <= 1
    config.write_text("[run]\nmax-tokns = 2\n")
    done = l4("run", stdin=row)
    assert done.returncode == 2
    assert "[run] has no option 'max_tokns'" in done.stderr


def test_a_bug_does_not_look_like_a_users_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(**_options: object) -> None:
        raise ValueError("some internal mishap")

    monkeypatch.setattr(app, "app", broken)
    assert app.invoke(debug=False) == errors.EXIT_FAILED
    assert "this is a bug in l4 (ValueError: some internal mishap)" in capsys.readouterr().err
    with pytest.raises(ValueError, match="mishap"):
        app.invoke(debug=True)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InputError("a file"), 2),
        (errors.EngineError("llama.cpp"), 1),
        (convert.ConvertError("a tensor"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_have_their_exit_codes(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_options: object) -> None:
        raise error

    monkeypatch.setattr(app, "app", fail)
    assert app.invoke(debug=False) == code


def test_models_lists_what_is_known_and_what_is_here(l4: L4) -> None:
    table = l4("models")
    assert table.returncode == 0
    assert [line.split()[0] for line in table.stdout.splitlines()] == [
        "NAME",
        "demo",
        "smollm2",
        "qwen3-0.6b",
        "qwen3-1.7b",
        "scout",
        "maverick",
        "behemoth",
    ]
    models = {model["name"]: model for model in json.loads(l4("models", "--json").stdout)}
    assert models["demo"]["default"]
    assert models["scout"]["present"] == []
    assert models["scout"]["n_ctx_train"] == 10_485_760


def test_the_public_api_is_this_and_no_more() -> None:
    assert l4cli.__all__ == [
        "LLM",
        "Completion",
        "Embedder",
        "Embeddings",
        "L4Error",
        "Request",
        "SamplingParams",
        "StepOutput",
        "__version__",
        "load",
        "load_embedder",
    ]
    for name in l4cli.__all__:
        assert getattr(l4cli, name) is not None


def test_the_python_api(tiny_gguf: Path) -> None:
    with l4cli.load(tiny_gguf, ctx=512) as llm:
        done = llm.generate("hello", max_tokens=6, temperature=0)
        assert done.finish_reason in ("stop", "length")
        messages = [{"role": "user", "content": "hello"}]
        assert "".join(llm.stream(messages, max_tokens=6, temperature=0)) == done.text
        with pytest.raises(l4cli.L4Error, match="unknown sampling option 'temprature'"):
            llm.generate("hello", temprature=0)
        with pytest.raises(l4cli.L4Error, match="the context holds 512"):
            next(llm.stream("x " * 600))


def _environment(**extra: str) -> dict[str, str]:
    import os

    return {**os.environ, **extra}


@pytest.mark.parametrize(
    ("closed", "code", "stdout", "stderr"),
    [
        (">&-", 2, "", "l4: cannot write to stdout: it is closed\n"),
        ("2>&-", 2, "", ""),
        ("<&- 2>&-", 2, "", ""),
    ],
)
def test_streams_that_are_closed(closed: str, code: int, stdout: str, stderr: str) -> None:
    """No file that is opened later gets their file descriptors, and no bug is reported."""
    command = f"'{sys.executable}' -m l4cli models --no-such-option {closed}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, stdout, stderr)
