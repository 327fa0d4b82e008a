"""The command under attack: a thousand connections at once that mean no good, round after round."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
import pytest
from hostile import CHAT, attack, serving_process

MIB = 1 << 20
pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc")


# With few connections, how many large bodies come at once is a matter of chance.
@pytest.mark.parametrize(
    ("count", "num_rounds", "growth"),
    [(48, 1, 0), pytest.param(1000, 4, 32 * MIB, marks=pytest.mark.slow)],
)
def test_the_server_is_well_and_as_it_was_afterwards(
    tiny_gguf: Path, tmp_path: Path, count: int, num_rounds: int, growth: int
) -> None:
    errors, sizes = tmp_path / "stderr", []
    with serving_process(tiny_gguf, errors, "--ctx", "1k", "--parallel", "4") as server:
        for number in range(num_rounds):
            asyncio.run(attack(server.port, count, number))
            body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
            reply = httpx.post(server.url + CHAT, json=body, timeout=60)
            assert reply.status_code == 200, reply.text
            for _ in range(400):
                if server.is_idle():
                    break
                time.sleep(0.1)
            assert server.is_idle()
            sizes.append(server.resident_bytes)
    assert server.num_asked > num_rounds
    assert server.wrong == []
    assert max(sizes) - sizes[0] <= growth
    assert "Traceback" not in errors.read_text()
