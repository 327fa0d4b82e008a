"""What the answers of chat completions and of completions share, whole and streamed."""

from __future__ import annotations

import time
from typing import Any

from l4cli.serve.generation import Call
from l4cli.serve.served import Served
from l4cli.serve.streams import event, to_json

DONE = b"data: [DONE]\n\n"  # the end of a stream


def head(served: Served, call: Call, prefix: str, kind: str) -> dict[str, Any]:
    """Return the fields with which an answer, or each of its chunks, begins.

    prefix: what its id begins with.
    kind: its `object`.
    """
    return {
        "id": f"{prefix}-{call.id}",
        "object": kind,
        "created": int(time.time()),
        "model": served.name,
        "system_fingerprint": f"fp_{served.llm.fingerprint[:16]}",
    }


class Chunks:
    """Encodes the chunks of one stream, of which only `choices` and `usage` differ.

    head: the fields with which each begins.
    includes_usage: whether the last chunk has the usage, and the others null.
    """

    def __init__(self, head: dict[str, Any], *, includes_usage: bool) -> None:
        self._head = head
        # What all chunks share is encoded once: a chunk is sent for each token.
        self._begin = b"data: " + to_json(head).removesuffix(b"}") + b',"choices":['
        self._end = b'],"usage":null}\n\n' if includes_usage else b"]}\n\n"

    def choice(self, choice: dict[str, Any]) -> bytes:
        """Return a chunk with one choice."""
        return self._begin + to_json(choice) + self._end

    def usage(self, usage: dict[str, int]) -> bytes:
        """Return the last chunk, which has the usage of all answers."""
        return event({**self._head, "choices": [], "usage": usage})
