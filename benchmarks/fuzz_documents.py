"""Odd and damaged documents by the thousand: does reading one crash, hang, or take memory?

    python -m benchmarks.fuzz_documents [--documents 100000] [--first 0] [--keep DIR]

The documents are made by seed (tests/odd_documents.py), in every format that l4 reads. Each may be
read, or refused in a line. Those that end otherwise, or take over 10 s, are kept. The last line is
JSON: the outcomes, the slowest document, and the largest memory of a process that read documents.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections import Counter
from pathlib import Path

from odd_documents import member

from l4cli.documents.formats import bounded
from l4cli.documents.ingest import document_of
from l4cli.errors import InputError

MOST_SECONDS = 10  # a document; then it hangs


def main() -> int:
    options = parse()
    outcomes: Counter[str] = Counter()
    slowest = (0.0, "")
    for seed in range(options.first, options.first + options.documents):
        name, data = member(seed)
        begun = time.monotonic()
        outcome = read(name, data)
        seconds = time.monotonic() - begun
        outcomes[outcome] += 1
        slowest = max(slowest, (seconds, name))
        if outcome not in ("read", "refused") or seconds > MOST_SECONDS:
            options.keep.mkdir(parents=True, exist_ok=True)
            (options.keep / name).write_bytes(data)
            print(f"{name}: {outcome}, {seconds:.1f} s", flush=True)
    bounded.end_child()
    figures = {
        "outcomes": dict(outcomes),
        "slowest_seconds": round(slowest[0], 2),
        "slowest": slowest[1],
        "child_rss_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }
    print(json.dumps(figures))
    wrong = sum(count for outcome, count in outcomes.items() if outcome not in ("read", "refused"))
    return 1 if wrong or slowest[0] > MOST_SECONDS else 0


def read(name: str, data: bytes) -> str:
    """Return how reading a document ends."""
    try:
        document_of(data, name)
    except InputError as error:
        line = str(error)
        return "refused" if line.startswith(name) and "\n" not in line else "not one line"
    except Exception as error:
        return type(error).__name__
    return "read"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-documents"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
