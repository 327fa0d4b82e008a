"""Odd members of a kind by the hundred thousand: does one crash, hang, or take memory unbounded?

    python -m benchmarks.sweep KIND [--members 100000] [--first 0] [--processes 1] [--log FILE]

The members are made by seed (the generators are in tests/). A member may do its work or end in a
clear error. Findings are members that end otherwise: a crash by signal, a traceback or "this is a
bug in l4", over 10 s, much memory, a wrong outcome. Each is a line in the log, and the sweep goes
on; so it does after Ctrl-C, with --first from where it stopped. The last line is JSON.

`python -m benchmarks.sweep KIND --first SEED --members 1` tries one member.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.shared import make_parser, note
from benchmarks.sweeping.kinds import KINDS
from benchmarks.sweeping.watch import Figures, Sweep

_EVERY = 20.0  # seconds between two lines of progress
_MIB = 1 << 20


def main() -> int:
    options = parse()
    kind = KINDS[options.kind]
    seeds = range(options.first, options.first + -(-options.members // kind.num_members))
    log = options.log or ROOT / "build" / "sweeps" / f"{options.kind}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    with log.open("a") as file:

        def write(line: str) -> None:
            file.write(f"{line}\n")
            file.flush()
            note(line)

        def found(seed: int, text: str) -> None:
            write(f"{options.kind} {seed}: {' / '.join(text.splitlines())}")

        told = time.monotonic()

        def progress(figures: Figures) -> None:
            nonlocal told
            if time.monotonic() - told > _EVERY:
                told = time.monotonic()
                write(json.dumps(summary(options.kind, figures)))

        sweep = Sweep(options.kind, kind, found)
        figures = sweep.run(seeds, options.processes, progress)
        again = Sweep(options.kind, kind, lambda _seed, _text: None)
        for seed in list(figures.late):  # a machine with other work may make any member late
            alone = again.run(range(seed, seed + 1), 1, lambda _: None)
            if alone.slowest <= kind.most_seconds and not alone.num_hangs:
                del figures.late[seed]
        for seed, seconds in figures.late.items():
            found(seed, f"takes {seconds:.1f} s")
        file.write(json.dumps(summary(options.kind, figures)) + "\n")
    print(json.dumps(summary(options.kind, figures)))
    return 1 if figures.num_findings or figures.late else 0


def summary(kind: str, figures: Figures) -> dict[str, Any]:
    """The figures as a person reads them."""
    per_trial = KINDS[kind].num_members
    members = figures.num_trials * per_trial
    counts = {name: count for name, count in asdict(figures).items() if name.startswith("num_")}
    return {
        "kind": kind,
        "members": members,
        "rate": round(members / figures.seconds, 1) if figures.seconds else 0,
        **{name.removeprefix("num_"): count for name, count in counts.items()},
        "late": len(figures.late),
        "slowest_seconds": figures.slowest,
        "slowest_seed": figures.slowest_seed,
        "peak_mib": figures.peak // _MIB,
        "peak_seed": figures.peak_seed,
        "children_peak_mib": figures.children_peak // _MIB,
        "resident_mib": [figures.resident_before // _MIB, figures.resident // _MIB],
        "next": figures.next_seed,
    }


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    about = "; ".join(f"{name}: {kind.about}" for name, kind in KINDS.items())
    parser.add_argument("kind", choices=tuple(KINDS), metavar="KIND", help=about)
    parser.add_argument("--members", type=int, default=100_000, help="how many (%(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (%(default)s)")
    parser.add_argument("--processes", type=int, default=1, help="at once (%(default)s)")
    parser.add_argument("--log", type=Path, metavar="FILE", help="(build/sweeps/KIND.log)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
