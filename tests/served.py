"""A real server in this process, on a free port: sockets, uvicorn and the engine's thread.

with served(llm) as url:
    httpx.get(f"{url}/health")
"""

from __future__ import annotations

import asyncio
import faulthandler
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from l4cli.loading.embedder import Embedder
from l4cli.loading.llm import LLM
from l4cli.serve.serving import ServeOptions, address_of, bind, serving


@contextmanager
def served(*llms: LLM, embedders: Sequence[Embedder] = (), **options: Any) -> Iterator[str]:
    """Serve models; yield the URL. The other arguments by name are the fields of ServeOptions."""
    bound = bind("127.0.0.1", 0)
    started = threading.Event()
    found: list[Any] = []

    async def run() -> None:
        async with serving(llms, ServeOptions(**options), embedders=embedders) as server:
            found.append(server)
            started.set()
            await server.serve(sockets=[bound])

    thread = threading.Thread(target=asyncio.run, args=[run()], daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield f"http://{address_of(bound)}"
    finally:
        found[0].should_exit = True
        thread.join(30)
        if thread.is_alive():
            faulthandler.dump_traceback()  # of all threads: what does it wait for?
            state = found[0].server_state
            pytest.fail(f"the server does not end: {state.connections} {state.tasks}")
        bound.close()
