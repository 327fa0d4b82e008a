"""Batches through OpenAI's own client: inputs, and what comes back.

batch = at_its_end(client, begin(client, line("a"), line("b")))
rows(client, batch.output_file_id)["a"]
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import openai

CHAT = "/v1/chat/completions"
OVER = ("completed", "failed", "expired", "cancelled")


def line(custom_id: Any, *, url: str = CHAT, **body: Any) -> str:
    """One line of an input: a request of few tokens."""
    asked = {"messages": [{"role": "user", "content": f"What is {custom_id}?"}]}
    body = {**(asked if url == CHAT else {}), "max_tokens": 4, "temperature": 0, **body}
    envelope = {"custom_id": custom_id, "method": "POST", "url": url, "body": body}
    return json.dumps(envelope)


def begin(client: openai.OpenAI, *lines: str, endpoint: str = CHAT, **more: Any) -> Any:
    made = client.files.create(file=("in.jsonl", "\n".join(lines).encode()), purpose="batch")
    asked: Any = {"completion_window": "24h", "endpoint": endpoint, **more}
    return client.batches.create(input_file_id=made.id, **asked)


def until(client: openai.OpenAI, batch: Any, is_so: Callable[[Any], object]) -> Any:
    """Poll a batch until something is so."""
    for _ in range(1500):
        batch = client.batches.retrieve(batch.id)
        if is_so(batch):
            return batch
        time.sleep(0.02)
    raise AssertionError(f"{batch} stays as it is")


def at_its_end(client: openai.OpenAI, batch: Any) -> Any:
    return until(client, batch, lambda batch: batch.status in OVER)


def rows(client: openai.OpenAI, file_id: str | None) -> dict[Any, Any]:
    """The lines of a file of results by custom_id, each once."""
    if file_id is None:
        return {}
    lines = [json.loads(text) for text in client.files.content(file_id).text.splitlines()]
    found = {one["custom_id"]: one for one in lines}
    assert len(found) == len(lines)
    return found
