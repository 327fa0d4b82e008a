"""Compare `l4 quantize` with llama-quantize: time, memory and bytes at the same job.

    python -m benchmarks.quantize_gguf --llama-quantize .../llama-quantize [--megabytes 400]
                                       [--from F16] [--types Q8_0,Q4_K_M] [--threads 2]

The GGUF is made on the spot: `l4 convert` of a checkpoint of random weights. Both programs find it
in the page cache. They run alternately, and the medians are printed. llama-quantize does not wait
until its output is on the disk, as l4 does; so its time is also given with a sync of the output.
Ends with one JSON line; the exit code is 1 if a file differs in any tensor or metadata.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.convert import differences
from benchmarks.shared import L4, Cost, make_parser, measure, note

_BILLIONS_PER_MEGABYTE = {"F32": 0.25e-3, "F16": 0.5e-3, "BF16": 0.5e-3, "Q8_0": 0.94e-3}


def main() -> None:
    args = _arguments()
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        folder = Path(scratch)
        base = _make_gguf(folder, args)
        size = base.stat().st_size
        results = {ftype: _measure(base, ftype, folder, args) for ftype in args.types}
        # Only now, since the peak memory of this process would count as its later children's.
        for ftype, result in results.items():
            result["differences"] = _n_different(folder, ftype)
    print(json.dumps({"source": args.source, "bytes": size, "types": results}))
    sys.exit(any(result["differences"] for result in results.values()))


def _make_gguf(folder: Path, args: argparse.Namespace) -> Path:
    # In child processes: the peak memory of this process would count as its later children's.
    checkpoint, base = folder / "model", folder / "base.gguf"
    billions = args.megabytes * _BILLIONS_PER_MEGABYTE[args.source]
    make = [sys.executable, "-m", "benchmarks.make_checkpoint", checkpoint, "--billions", billions]
    _run([*make, "--kind", "scout"])
    _run([*L4, "convert", checkpoint, "-o", base, "--type", args.source, "--force"])
    note(f"{base.stat().st_size / 1e6:.0f} MB of {args.source}")
    return base


def _measure(base: Path, ftype: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    ours, theirs = folder / f"ours-{ftype}.gguf", folder / f"theirs-{ftype}.gguf"
    l4 = [*L4, "quantize", base, "-o", ours, "--type", ftype, "--threads", args.threads]
    l4 += ["--force", "--requantize", "--overwrite"]
    peer = [args.llama_quantize, "--allow-requantize", base, theirs, ftype, args.threads]
    # The shell waits until the peer's output is on the disk.
    synced = ["sh", "-c", '"$@" && sync "$0"', theirs, *peer]
    costs: dict[str, list[Cost]] = {"l4": [], "llama-quantize": [], "and synced": []}
    for _ in range(args.rounds):
        for name, command in zip(costs, (l4, peer, synced), strict=True):
            (ours if name == "l4" else theirs).unlink(missing_ok=True)
            costs[name].append(measure(command, folder))
    result: dict[str, Any] = {}
    for name, each in costs.items():
        wall, cpu = median(cost.wall for cost in each), median(cost.cpu for cost in each)
        rss = max(cost.rss for cost in each)
        note(f"{ftype:<8} {name:<16} {wall:7.2f} s {cpu:7.2f} s CPU {rss / 1e6:6.0f} MB of memory")
        result[name] = {"seconds": round(wall, 3), "cpu": round(cpu, 3), "rss": rss}
    return result


def _n_different(folder: Path, ftype: str) -> int:
    found = differences(folder / f"ours-{ftype}.gguf", folder / f"theirs-{ftype}.gguf")
    lines = [line for each in found for line in each]
    for line in lines[:5]:
        note(f"{ftype}: {line}")
    return len(lines)


def _run(command: list[Any]) -> None:
    subprocess.run([str(word) for word in command], check=True, stdout=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--llama-quantize", type=Path, required=True, help="the program's path")
    parser.add_argument("--megabytes", type=float, default=400, help="of the GGUF (%(default)s)")
    parser.add_argument("--from", dest="source", default="F16", choices=_BILLIONS_PER_MEGABYTE)
    parser.add_argument(
        "--types", type=lambda text: text.split(","), default=["Q8_0", "Q4_K_M", "Q4_0", "IQ4_XS"]
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scratch", type=Path, help="a folder for all files")
    return parser.parse_args()


if __name__ == "__main__":
    main()
