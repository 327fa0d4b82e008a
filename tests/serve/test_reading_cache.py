"""Long prompts are kept on disk, and a later server, or a chat, goes on from them."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from served import served

from l4cli.loading.load import find_model, load_file
from l4cli.loading.options import LoadOptions

LONG = "the quick brown fox and the lazy dog are friends and so on. " * 40


def ask(url: str, text: str) -> dict[str, int]:
    """Ask a question; return the usage of the answer."""
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 4, "temperature": 0}
    usage: dict[str, int] = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()[
        "usage"
    ]
    return usage


@pytest.mark.parametrize("slots", [1, 4])
def test_a_later_server_does_not_compute_a_long_prompt_again(tiny_gguf: Path, slots: int) -> None:
    notes: list[str] = []
    options = LoadOptions(elastic=True, parallel=slots, ctx="auto", threads=1, store=True)
    options = options.but(interactive=True)
    found = []
    for text in (LONG, LONG + "Who is quick?", "How are you?"):
        with load_file(find_model(str(tiny_gguf)), options, on_note=notes.append) as llm:
            llm.provide(2048, slots)
            with served(llm) as url:
                usage = ask(url, text)
        found.append((usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]))
    (first, cold), (second, warm), (_, other) = found
    assert first > 512
    assert cold == other == 0
    assert first - 16 <= warm < second
    assert notes == []
