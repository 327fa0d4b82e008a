"""The child process that converts documents for `bounded.py`, within limits that a parent cannot
set for itself. It ends when its input does, or when its parent is gone.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from dataclasses import asdict
from typing import Any, BinaryIO

from l4cli.documents.formats.bounded import Limits
from l4cli.documents.formats.readers import convert
from l4cli.errors import InputError
from l4cli.native.memory import set_soft_limit


def main() -> None:
    """Answer requests from stdin on stdout: each a line of JSON, and bytes that follow it."""
    requests = sys.stdin.buffer
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get into the replies
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    while line := requests.readline():
        request = json.loads(line)
        _limit(Limits(**request["limits"]))
        reply = json.dumps(_answer(requests, request["name"], request["length"])).encode()
        replies.write(b"%d\n" % len(reply) + reply)
        replies.flush()


def _answer(requests: BinaryIO, name: str, length: int) -> dict[str, Any]:
    """Return the converted document, or the error, as a JSON value."""
    try:
        read = convert(requests.read(length), name)
    except InputError as error:
        return {"error": type(error).__name__, "message": str(error)}
    except MemoryError:
        return {"error": "MemoryError", "message": ""}
    except Exception as error:
        return {"error": "bug", "message": f"{error!r}\n{traceback.format_exc()}"}
    document = read.document
    return {
        "text": document.text,
        "pages": document.pages,
        "headings": [asdict(heading) for heading in document.headings],
        "has_lines": document.has_lines,
        "left_out": dict(read.left_out),
        "notes": list(read.notes),
    }


def _limit(limits: Limits) -> None:
    """Set the limits for the next document."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime + limits.seconds) + 1
    set_soft_limit(resource.RLIMIT_CPU, seconds)
    set_soft_limit(resource.RLIMIT_AS, _mapped() + limits.n_bytes)


def _mapped() -> int:
    """Return the bytes of address space in use; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, even in the middle of a document."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    main()
