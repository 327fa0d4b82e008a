"""The process in which constraints are tried out: reads them as lines, writes what came of each.

`python -m l4cli.engine.guidance.trial_process` is the child of `trial.py`. A constraint that takes
too much time, memory or stack ends this process, and only this one.
"""

from __future__ import annotations

import ctypes
import json
import math
import re
import resource
import signal
import sys
import threading
from typing import Any

from llguidance import LLMatcher, LLTokenizer

from l4cli.engine.guidance.translate import complaint, limits, to_llguidance
from l4cli.engine.guidance.trial import MEMORY_BYTES, STACK_BYTES
from l4cli.engine.types import Constraint
from l4cli.native.memory import set_soft_limit

_TOKEN_ID = re.compile(r"<\[\d+\]>")  # a control token of the model, which bytes are not


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    set_soft_limit(resource.RLIMIT_AS, MEMORY_BYTES)
    threading.stack_size(STACK_BYTES)
    thread = threading.Thread(target=_serve)
    thread.start()
    thread.join()


def _serve() -> None:
    tokenizer = LLTokenizer("byte")
    sys.stdout.write("\n")  # it is ready
    sys.stdout.flush()
    for line in sys.stdin.buffer:
        job = json.loads(line)
        used = resource.getrusage(resource.RUSAGE_SELF)
        set_soft_limit(
            resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime) + job["seconds"]
        )
        reply = _try_out(tokenizer, Constraint(job["kind"], job["source"]))
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


def _try_out(tokenizer: LLTokenizer, constraint: Constraint) -> dict[str, Any]:
    """Do what a request would do: compile, copy, ask for a mask, and let go of it all."""
    try:
        grammar = to_llguidance(constraint)
        same = grammar if constraint.kind != "calls" else _TOKEN_ID.sub('"x"', grammar)
        matcher = LLMatcher(tokenizer, same, log_level=0, limits=limits(constraint))
    except (ValueError, RecursionError) as error:
        return {"error": complaint(error)}
    if not matcher.is_error():
        # No numpy: on many cores, its threads alone would take the memory that is allowed.
        bits = (ctypes.c_int32 * ((tokenizer.vocab_size + 31) // 32))()
        for each in (matcher.deep_copy(), matcher):
            each.unsafe_compute_mask_ptr(ctypes.addressof(bits), ctypes.sizeof(bits))
    if matcher.is_error():
        return {"error": complaint(matcher.get_error())}
    return {"grammar": grammar}


if __name__ == "__main__":
    main()
