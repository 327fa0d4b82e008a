"""What the answers of chat completions and of completions share, whole and streamed."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from l4cli.openai.bodies import Body
from l4cli.serve.generation import Call, call_for
from l4cli.serve.handling import Api
from l4cli.serve.served import Served

DONE = b"data: [DONE]\n\n"  # the end of a stream


async def encoded(api: Api, served: Served, body: Body) -> Call:
    """Encode what a body asks for. Raises L4Error if that is not possible."""
    most, lenient = served.default_max_tokens, api.lenient
    return await served.asking.encode(
        partial(call_for, served.llm, body, most, thinking="reasoning_effort", lenient=lenient)
    )


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
