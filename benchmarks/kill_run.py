"""kill -9 at random moments, `--resume`, and again: does the file end as an undisturbed run's?

    python benchmarks/kill_run.py [--kills 50] [--model demo] [--seed 0]

The moments are drawn between the start of the command and a little after its first new row, so
that they fall into loading, prefill, decoding and writing alike. Every third round resumes with
--retry-errors, over rows that fail on purpose. Compared is every row but for times and
cached_tokens, which tell how a run went and not what it answered. Prints one JSON line last.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

QUESTIONS = ("What is GGUF?", "Which commands does l4 have?", "What is Scout?", "Write a tongue")


def write_prompts(path: Path, count: int) -> None:
    """Rows of every kind: greedy and drawn, two answers, duplicates, and lines that fail."""
    with path.open("w") as file:
        for number in range(count):
            row: dict[str, Any] = {"prompt": QUESTIONS[number % len(QUESTIONS)], "max_tokens": 24}
            if number % 5 == 1:
                row |= {"temperature": 0.8, "seed": number}
            if number % 7 == 2:
                row["n"] = 2
            if number % 9 == 4:
                row["max_tokens"] = 10**6  # cannot fit
            file.write(json.dumps(row) + "\n" if number % 13 else "{not a row\n")


def comparable(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row.pop("timings", None)
        row.get("usage", {}).pop("cached_tokens", None)
    return rows


def size(*paths: Path) -> int:
    return sum(path.stat().st_size for path in paths if path.exists())


def kill_once(command: list[str], out: Path, moments: random.Random) -> float | None:
    """Start, kill -9 at a random moment; the seconds it lived, None if it was done before."""
    files = (out, out.with_name(out.name + ".retry"))
    before, started = size(*files), time.monotonic()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    if moments.random() < 0.2:  # while it starts and loads
        time.sleep(moments.random())
    else:
        while process.poll() is None and size(*files) == before:
            time.sleep(0.002)
        time.sleep(moments.random() ** 2 * 0.5)
    if process.poll() is not None:
        return None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    moments = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        prompts, quiet, out = (Path(folder) / name for name in ("p.jsonl", "quiet", "out"))
        write_prompts(prompts, args.rows)
        command = [sys.executable, "-m", "l4cli", "run", str(prompts), "-m", args.model]
        command += ["--temperature", "0", "--ctx", "8k", "--threads", "1"]
        subprocess.run([*command, "-o", str(quiet)], stderr=subprocess.DEVNULL, check=False)
        lives: list[float] = []
        num_rounds = 1
        while len(lives) < args.kills:
            is_retry = moments.random() < 1 / 3 or out.with_name("out.retry").exists()
            resume = "--retry-errors" if is_retry else "--resume"
            lived = kill_once([*command, "-o", str(out), resume], out, moments)
            if lived is not None:
                lives.append(lived)
            elif not out.with_name("out.retry").exists() and len(comparable(out)) == args.rows:
                assert comparable(out) == comparable(quiet), "a finished file differs"
                for file in out.parent.glob("out*"):
                    file.unlink()
                num_rounds += 1  # all rows written: begin anew
        for resume in ("--retry-errors", "--resume"):
            done = subprocess.run(
                [*command, "-o", str(out), resume], capture_output=True, text=True, check=False
            )
            assert done.returncode in (0, 1), done.stderr
        same = comparable(out) == comparable(quiet)
        left = sorted(file.name for file in out.parent.glob("out*"))
        result = {
            "kills": len(lives),
            "rows": args.rows,
            "files": num_rounds,
            "seconds_lived": [round(min(lives), 2), round(max(lives), 2)],
            "equal": same,
            "left_over": [name for name in left if name not in ("out", "out.journal")],
        }
    print(json.dumps(result))
    sys.exit(not same)


if __name__ == "__main__":
    main()
