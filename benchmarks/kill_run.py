"""Kill `l4 run` with SIGKILL at random moments, resume it, and compare with an undisturbed run.

    python -m benchmarks.kill_run [--kills 50] [--model demo] [--seed 0]

The moments are drawn between the start of the command and shortly after its first new row, so that
kills hit loading, prefill, decoding and writing alike. About every third round resumes with
--retry-errors, with rows that fail on purpose. All rows are compared, except for their times and
cached_tokens, which depend on how a run went. Prints one JSON line; the exit code is 1 if any row
differs.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.shared import L4, make_parser

QUESTIONS = ("What is GGUF?", "Which commands does l4 have?", "What is Scout?", "Write a tongue")


def write_prompts(path: Path, count: int) -> None:
    """Write rows of every kind: greedy and sampled, with two answers, duplicates, and bad ones."""
    with path.open("w") as file:
        for number in range(count):
            row: dict[str, Any] = {"prompt": QUESTIONS[number % len(QUESTIONS)], "max_tokens": 24}
            if number % 5 == 1:
                row |= {"temperature": 0.8, "seed": number}
            if number % 7 == 2:
                row["n"] = 2
            if number % 9 == 4:
                row["max_tokens"] = 10**6  # more than fits into the context: the row fails
            file.write(json.dumps(row) + "\n" if number % 13 else "{not a row\n")


def comparable(path: Path) -> list[dict[str, Any]]:
    """Return the rows of an output file, without the fields that may differ between runs."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row.pop("timings", None)
        row.get("usage", {}).pop("cached_tokens", None)
    return rows


def size(*paths: Path) -> int:
    """Return the bytes of these files together; a missing file counts as empty."""
    return sum(path.stat().st_size for path in paths if path.exists())


def kill_once(command: list[str], out: Path, moments: random.Random) -> float | None:
    """Start `command` and kill it at a random moment; return the seconds it lived.

    Return None if it ended before that moment.
    """
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
    parser = make_parser(__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    moments = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        prompts, undisturbed, out = (Path(folder) / name for name in ("p.jsonl", "quiet", "out"))
        write_prompts(prompts, args.rows)
        command = [*L4, "run", str(prompts), "-m", args.model]
        command += ["--temperature", "0", "--ctx", "8k", "--threads", "1"]
        subprocess.run([*command, "-o", str(undisturbed)], stderr=subprocess.DEVNULL, check=False)
        expected = comparable(undisturbed)
        lives: list[float] = []
        num_files = 1
        while len(lives) < args.kills:
            is_retry = moments.random() < 1 / 3 or out.with_name("out.retry").exists()
            resume = "--retry-errors" if is_retry else "--resume"
            lived = kill_once([*command, "-o", str(out), resume], out, moments)
            if lived is not None:
                lives.append(lived)
            elif not out.with_name("out.retry").exists() and len(comparable(out)) == args.rows:
                # All rows are written: compare them and start a new file.
                assert comparable(out) == expected, "a finished file differs"
                for file in out.parent.glob("out*"):
                    file.unlink()
                num_files += 1
        for resume in ("--retry-errors", "--resume"):
            done = subprocess.run(
                [*command, "-o", str(out), resume], capture_output=True, text=True, check=False
            )
            assert done.returncode in (0, 1), done.stderr
        same = comparable(out) == expected
        left = sorted(file.name for file in out.parent.glob("out*"))
        result = {
            "kills": len(lives),
            "rows": args.rows,
            "files": num_files,
            "seconds_lived": [round(min(lives), 2), round(max(lives), 2)],
            "equal": same,
            "left_over": [name for name in left if name not in ("out", "out.journal")],
        }
    print(json.dumps(result))
    sys.exit(not same)


if __name__ == "__main__":
    main()
