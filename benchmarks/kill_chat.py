"""Kill `l4 chat` with SIGKILL again and again, and check that its session loses nothing.

    python -m benchmarks.kill_chat -m demo.gguf [--kills 20] [--seed 0]

Every process asks one more question in the same session and is killed at a random moment: while it
loads, restores, answers or writes. After each kill, the session must still hold every message it
held before, unchanged, and no question without its answer. Prints one JSON line.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.shared import L4, make_parser
from l4cli.chat.history.conversation import Message
from l4cli.chat.history.records import replay


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--kills", type=int, default=20, help="processes to kill (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        home = {f"XDG_{name}_HOME": folder for name in ("STATE", "CACHE")}
        path = Path(folder) / "l4" / "sessions" / "killed.jsonl"
        started = time.perf_counter()
        ask(args.model, "question 0", home).wait()
        seconds = time.perf_counter() - started
        kept = messages(path)
        num_torn = num_killed = 0
        for number in range(1, args.kills + 1):
            process = ask(args.model, f"question {number}", home)
            try:
                process.wait(draw.uniform(0.2, 1.1) * seconds)
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                num_killed += process.wait() == -signal.SIGKILL
            num_torn += not path.read_bytes().endswith(b"\n")
            now = messages(path)
            if now[: len(kept)] != kept or len(now) % 2:
                sys.exit(f"process {number}: the session lost a message:\n{kept}\nbecame\n{now}")
            kept = now
        last = ask(args.model, "the last question", home).wait()
    found = {
        "kills": num_killed,
        "processes": args.kills + 2,
        "turns_kept": len(kept) // 2,
        "torn_lines": num_torn,
        "exit_code_after": last,
    }
    print(json.dumps(found))
    return 0 if last == 0 else 1


def ask(model: str, question: str, home: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start `l4 chat` with one question in the session "killed".

    home: environment variables that name the folders for l4's state and caches.
    """
    return subprocess.Popen(
        [*L4, "chat", "-m", model, "--session", "killed", "-p", question, "-n", "40"],
        env={**os.environ, **home},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def messages(path: Path) -> list[Message]:
    """Return the messages of the session's file, from first to last."""
    tree = replay(path.read_bytes(), "", lambda _: True).tree
    return [node.message for node in tree.path()]


if __name__ == "__main__":
    sys.exit(main())
