"""The child process that runs a file of tools: `python -m l4cli.chat.tools.host FILE.py`.

It writes one JSON line once the file is loaded, then one reply for each line that it reads:

    {"tools": [SCHEMA, …], "about": DOCSTRING}               or {"error": WHY}
    {"check": NAME, "arguments": {…}}  ->  {}                or {"error": WHY}
    {"call": NAME, "arguments": {…}}   ->  {"result": TEXT}  or {"error": WHY, "where": PLACE}

Requests and replies also have a "number", so that no reply is taken for another's; the first line's
is 0. Output of the tools goes to stderr. The process ends when stdin ends, even during a call.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from l4cli.chat.tools.functions import (
    Tool,
    ToolArgumentError,
    ToolFileError,
    about_tools,
    load_tools,
    place_of,
    said_by,
)
from l4cli.chat.tools.keeper import fork_below_keeper
from l4cli.chat.tools.results import bounded

_PARTING = 1.0  # seconds that a running tool has left after l4 has ended


def main() -> None:
    path = Path(sys.argv[1])
    fork_below_keeper()
    requests, replies = _take_over_stdio()
    _be_killed_first()
    host = os.getpid()
    try:
        tools = load_tools(path)
    except ToolFileError as error:
        _reply(replies, {"number": 0, "error": bounded(str(error))})
        return
    schemas = [tool.schema for tool in tools.values()]
    _reply(replies, {"number": 0, "tools": schemas, "about": bounded(about_tools())})
    while line := requests.get():
        request = json.loads(line)
        reply = {"number": request["number"], **_served(tools, request, path)}
        if os.getpid() != host:
            os._exit(0)  # a fork that the function made and did not end
        _reply(replies, reply)


def _be_killed_first() -> None:
    """Where memory runs out, have Linux kill this process and not l4, whose model is larger."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _served(tools: Mapping[str, Tool], request: Mapping[str, Any], path: Path) -> dict[str, Any]:
    tool = tools[request.get("check") or request["call"]]
    try:
        if "check" in request:
            tool.checked(request["arguments"])
            return {}
        return {"result": tool.run(request["arguments"])}
    except ToolArgumentError as error:
        return {"error": bounded(str(error))}
    except BaseException as error:  # any exception, also SystemExit, is the result of the call
        return {"error": bounded(said_by(error)), "where": place_of(error, path)}


def _reply(replies: TextIO, value: Mapping[str, Any]) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the tools may have closed or replaced it
            stream.flush()  # printed output must arrive before the reply
    replies.write(json.dumps(value) + "\n")
    replies.flush()


def _take_over_stdio() -> tuple[queue.SimpleQueue[str], TextIO]:
    """Move requests and replies to new descriptors; return a queue of requests, and the replies.

    Tools then read an empty stdin, and what they print goes to stderr. A thread reads the requests,
    so that the end of l4 is noticed even while a tool runs; the queue then gets "".
    """
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    received: queue.SimpleQueue[str] = queue.SimpleQueue()

    def receive() -> None:
        for line in requests:
            received.put(line)
        received.put("")
        time.sleep(_PARTING)
        os._exit(1)

    threading.Thread(target=receive, name="l4-requests", daemon=True).start()
    return received, replies


if __name__ == "__main__":
    main()
