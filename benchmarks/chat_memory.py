"""Does `l4 chat` keep its memory flat? A real chat in a pseudo-terminal, hundreds of turns long.

    python benchmarks/chat_memory.py [MODEL] [--turns 200] [--clear 20]

Asks the demo model, or another, one question after the other and reads the process's resident
memory after each answer. The first quarter is warming up; over the rest a line is fitted. Prints
every twentieth turn, then one JSON line: MiB at both ends, KiB a turn.

A conversation is kept, so it grows by half a KiB a token: llama.cpp lists the cells it uses, of
both caches, in trees (185 bytes a token, 110 more where a spare sequence holds a copy), and there
are the texts, their ids, and what rendering them takes for a moment. With --clear the conversation
begins anew every so many turns, and only turns of the same place in it are compared: what then
still grows is lost.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
import pexpect

QUESTIONS = (
    "What is GGUF?",
    "Which commands does l4 have?",
    "What is a router?",
    "什么是专家混合？",
    "How do I convert a checkpoint?",
)
AT_PROMPT = "\x1b[?2004h"  # bracketed paste switched on: the prompt is there


def resident(pid: int) -> float:
    """MiB of the process's memory that are not pages of files."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("needs Linux's /proc")


def run(options: argparse.Namespace) -> list[float]:
    command = ["-m", "l4cli", "chat", "--no-history", "--ctx", "64k", "-n", "48", "--seed", "1"]
    if options.model:
        command += ["-m", options.model]
    child = pexpect.spawn(
        sys.executable,
        command,
        dimensions=(40, 100),
        timeout=300,
        env={**os.environ, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"},
    )
    child.delaybeforesend = None
    child.expect_exact(AT_PROMPT)
    sizes = []
    for turn in range(options.turns):
        child.send(QUESTIONS[turn % len(QUESTIONS)] + "\r")
        child.expect_exact(AT_PROMPT)
        sizes.append(resident(child.pid))
        if options.clear and turn % options.clear == options.clear - 1:
            child.send("/clear\r")
            child.expect_exact(AT_PROMPT)
        if turn % 20 == 19:
            print(f"turn {turn + 1}: {sizes[-1]:.1f} MiB", flush=True)
    child.sendeof()
    child.expect(pexpect.EOF)
    child.close()
    if child.exitstatus:
        raise SystemExit(f"l4 chat ended with {child.exitstatus}")
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", nargs="?", help="the demo model unless given")
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--clear", type=int, metavar="N", help="/clear behind every so many turns")
    options = parser.parse_args()
    sizes = run(options)
    step = options.clear or 1
    warm = sizes[len(sizes) // 4 // step * step + step - 1 :: step]
    slope, _ = np.polyfit(step * np.arange(len(warm)), np.array(warm) * 1024, 1)
    found = {
        "turns": len(sizes),
        "MiB after the first quarter": round(warm[0], 1),
        "MiB at the end": round(warm[-1], 1),
        "KiB a turn": round(float(slope), 2),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
