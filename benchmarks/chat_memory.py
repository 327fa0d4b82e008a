"""Measure whether the memory of `l4 chat` stays flat over hundreds of turns.

    python -m benchmarks.chat_memory [MODEL] [--turns 200] [--clear 20]

A real chat runs in a pseudo-terminal. This script asks one question after the other and reads the
memory of the process after each answer. The first quarter of the turns is warm-up; a line is fitted
to the rest. Prints every twentieth turn, then one JSON line: MiB at both ends, KiB per turn.

The chat keeps its conversation, so it grows by about half a KiB per token. llama.cpp lists the used
cells of both KV caches in trees: 185 bytes per token, and 110 more where a spare sequence holds a
copy. l4 keeps the texts and their token ids, and rendering them takes more for a moment. With
--clear N the conversation starts again every N turns, and only turns at the same place in it are
compared: any growth that remains is a leak.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import pexpect

from benchmarks.shared import make_parser, memory, spawn_in_terminal

QUESTIONS = (
    "What is GGUF?",
    "Which commands does l4 have?",
    "What is a router?",
    "什么是专家混合？",
    "How do I convert a checkpoint?",
)
AT_PROMPT = "\x1b[?2004h"  # turns bracketed paste on: the chat waits for input


def run(options: argparse.Namespace) -> list[float]:
    """Hold the chat; return its RssAnon after each turn, in MiB."""
    command = ["-m", "l4cli", "chat", "--no-history", "--ctx", "64k", "-n", "48", "--seed", "1"]
    if options.model:
        command += ["-m", options.model]
    child = spawn_in_terminal(command, timeout=300)
    child.delaybeforesend = None
    child.expect_exact(AT_PROMPT)
    sizes = []
    for turn in range(options.turns):
        child.send(QUESTIONS[turn % len(QUESTIONS)] + "\r")
        child.expect_exact(AT_PROMPT)
        sizes.append(memory(child.pid)["RssAnon"] / (1 << 20))
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


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("model", nargs="?", help="the demo model unless given")
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--clear", type=int, metavar="N", help="send /clear after every N turns")
    return parser.parse_args()


def main() -> None:
    options = parse()
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
