"""Commands and Python in the README and the documentation do what they say."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from encoders import write_encoder
from served import served

import convert
from l4cli.loading.load import load
from l4cli.loading.load_embedder import load_embedder

SERVER = "http://127.0.0.1:8080"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text("utf-8") for page in PAGES)


def blocks(language: str) -> list[str]:
    """The code blocks of a language, each once; `console` blocks are commands to run."""
    return list(dict.fromkeys(re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)))


def commands(page: Path) -> list[str]:
    """The commands of a page in order, each once."""
    text = page.read_text("utf-8")
    found = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return list(dict.fromkeys(line for block in found for line in block.splitlines()))


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem
)
def test_the_commands_of_a_page_work_one_after_another(page: Path, tmp_path: Path) -> None:
    """They run in one folder, as for a reader; paths that the reader must supply exist there."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "path" / "to").mkdir(parents=True)
    (tmp_path / "path" / "to" / "checkpoint").symlink_to(ROOT / "l4cli" / "demo" / "checkpoint")
    for command in commands(page):
        if command == "l4 chat":
            continue  # needs a terminal: see test_cli_chat
        shell = f'l4() {{ {shlex.quote(sys.executable)} -m l4cli "$@"; }}; {command}'
        done = subprocess.run(
            ["bash", "-c", shell], cwd=tmp_path, capture_output=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stderr.decode()}"
    for name in ("out.jsonl", "answers.jsonl"):
        if (tmp_path / name).exists():
            rows = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
            asked = (ROOT / "examples" / "prompts.jsonl").read_text("utf-8").splitlines()
            assert len(rows) == len(asked)
            assert not any("error" in row for row in rows)


def python_blocks(*, of_server: bool, of_embeddings: bool = False) -> list[str]:
    """The blocks of Python that ask a server or not, and that make embeddings or not."""
    return [
        code
        for code in blocks("python")
        if (SERVER in code) == of_server and ("embed" in code) == of_embeddings
    ]


@pytest.mark.parametrize("code", python_blocks(of_server=False))
def test_readme_python(code: str) -> None:
    run_python(code)


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A tiny embedding model with the name of a known one."""
    path = tmp_path / "all-MiniLM-L6-v2-Q8_0.gguf"
    convert.convert(convert.plan(write_encoder(tmp_path / "model"), "Q8_0"), path)
    return path


@pytest.mark.parametrize("code", python_blocks(of_server=False, of_embeddings=True))
def test_python_that_makes_embeddings(code: str, encoder: Path) -> None:
    assert -1.001 <= float(run_python(code, encoder.parent)) <= 1.001


@pytest.mark.parametrize("code", python_blocks(of_server=True, of_embeddings=True))
def test_python_that_asks_a_server_for_embeddings(code: str, encoder: Path) -> None:
    with load_embedder(encoder, threads=1) as embedder, served(embedders=[embedder]) as url:
        assert run_python(code.replace(SERVER, url)) == "2 vectors of 128 numbers\n"


@pytest.mark.slow
@pytest.mark.parametrize("code", python_blocks(of_server=True))
def test_python_of_the_servers_pages(code: str, tmp_path: Path) -> None:
    """Each block is run beside a server, in a folder with a file of requests."""
    body = {"messages": [{"role": "user", "content": "What is GGUF?"}]}
    row = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    with load("demo", elastic=True, parallel=2, ctx="auto") as llm:
        llm.provide(2048, 2)
        with served(llm) as url:
            said = run_python(code.replace(SERVER, url), tmp_path)
    assert "GGUF is" in said


def run_python(code: str, cwd: Path | None = None) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=cwd, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.strip()
    return done.stdout.decode()


@pytest.mark.parametrize("line", [block.strip() for block in blocks("json")])
def test_readme_output_row_is_what_run_writes(line: str) -> None:
    from l4cli.batch.outputs import answer
    from l4cli.batch.rows import Row
    from l4cli.engine.types import Completion

    completion = Completion("1", "", (), "stop", 1, 0, 1, 0.0, 0.0)
    row = answer(Row(1, 1, b"", prompt=""), [completion], "m")
    assert list(json.loads(line)) == list(row)
