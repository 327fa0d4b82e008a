"""A batch of the real command goes on by itself after kill -9, and nothing is lost or doubled."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from batch_client import at_its_end, begin, line, rows, until

_ROWS = [str(number) for number in range(200)]


@contextmanager
def command(log: Path) -> Iterator[tuple[subprocess.Popen[bytes], openai.OpenAI]]:
    """`l4 serve` in a process of its own, and a client of it."""
    arguments = ["serve", "-m", "demo", "--port", "0", "--parallel", "4", "--ctx", "1024"]
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "l4cli", *arguments], stdin=subprocess.DEVNULL, stderr=stderr
        )
    try:
        for _ in range(1200):
            found = re.findall(r"(http://[^ ]+/v1) the API", log.read_text())
            if found or process.poll() is not None:
                break
            time.sleep(0.05)
        log.unlink()
        with openai.OpenAI(base_url=found[-1], api_key="none", max_retries=0) as client:
            yield process, client
    finally:
        process.kill()
        process.wait()


def kill_after(
    process: subprocess.Popen[bytes], client: openai.OpenAI, batch: Any, count: int
) -> None:
    """Kill the server when so many rows are answered."""
    until(client, batch, lambda batch: batch.request_counts.completed >= count)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def num_answered() -> int:
    """How many rows are on disk."""
    written = next(Path(os.environ["XDG_STATE_HOME"]).rglob("*.rows"))
    return written.read_bytes().count(b"\n")


@pytest.mark.slow
def test_a_batch_goes_on_after_kill_9_again_and_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    long = [line(number, max_tokens=24, ignore_eos=True) for number in _ROWS]
    with command(log) as (process, client):
        batch = begin(client, *long)
        kill_after(process, client, batch, 20)
    num_before = num_answered()
    assert 20 <= num_before < 200
    with command(log) as (process, client):
        kill_after(process, client, batch, num_before + 60)
    num_before = num_answered()
    assert 80 <= num_before < 200
    with command(log) as (process, client):
        batch = until(client, batch, lambda batch: batch.request_counts.completed >= num_before)
        batch = at_its_end(client, batch)
        assert batch.status == "completed"
        assert batch.request_counts.model_dump() == {"completed": 200, "failed": 0, "total": 200}
        answered = rows(client, batch.output_file_id)  # each once
        assert sorted(answered, key=int) == _ROWS
        assert all(one["response"]["body"]["choices"][0]["message"] for one in answered.values())
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
