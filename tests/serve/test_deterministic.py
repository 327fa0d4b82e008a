"""`--deterministic`: a greedy answer depends on nothing but its request."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from served import served

from l4cli.loading.load import load

SYSTEM = "You are the keeper of a pump house. " * 12


def asked(number: int) -> dict[str, object]:
    """A request; every third one begins as the others of its kind do."""
    messages = [{"role": "user", "content": f"What is {number} and {'so on ' * (number % 7)}?"}]
    if number % 3 == 0:
        messages.insert(0, {"role": "system", "content": SYSTEM})
    return {"messages": messages, "temperature": 0, "max_tokens": 12, "ignore_eos": True}


def test_alone_in_company_cold_and_warm_the_text_is_the_same(tiny_gguf: Path) -> None:
    def ask(url: str, number: int) -> str:
        reply = httpx.post(f"{url}/v1/chat/completions", json=asked(number), timeout=120)
        message = reply.json()["choices"][0]["message"]
        return json.dumps(message)

    said: list[list[str]] = []
    with load(tiny_gguf, elastic=True, deterministic=True, ctx="auto", threads=2) as llm:
        llm.provide(1024, 1)
        with served(llm) as url, ThreadPoolExecutor(32) as pool:
            for _ in range(2):  # the second time, prefixes are in the cache
                said.append(list(pool.map(lambda number: ask(url, number), range(32))))
            llm.engine.forget()  # nothing is in flight here
            said.append([ask(url, number) for number in reversed(range(32))][::-1])
    assert said[0] == said[1] == said[2]
