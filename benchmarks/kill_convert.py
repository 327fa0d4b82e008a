"""Kill `l4 convert` with -9 at random moments, resume it, and compare with an undisturbed run.

    python benchmarks/kill_convert.py CHECKPOINT [--type Q4_K_M] [--kills 30] [--seed 0]

Every round starts where the kill before left it; a conversion that comes to its end is compared and
begun anew, until all kills are done. Ends with one JSON line; exit 1 if any bytes differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# The real command, saving as often as it can and in small tiles: more moments that matter.
CHILD = """
import sys, time
sys.path.insert(0, {root!r})
import convert, convert.writing.pipeline
convert.writing.pipeline.SECONDS_BETWEEN_SAVES = 0.02
make = convert.writing.pipeline.make_tiles
def make_slowly(*args):
    time.sleep({pause})
    return make(*args)
convert.writing.pipeline.make_tiles = make_slowly
from l4cli.app import main
sys.argv[0] = "l4"
main()
"""


@dataclass
class Result:
    """What came of it: `resumed` are the rounds that found something to go on with."""

    kills: int = 0
    resumed: int = 0
    finished: int = 0
    is_same: bool = True


def kill_and_resume(checkpoint: Path, out: Path, ftype: str, *, kills: int, seed: int) -> Result:
    """See above; `out` is removed in the end."""
    started = time.monotonic()
    expected = _finish(checkpoint, out, ftype)
    seconds = time.monotonic() - started
    moments = random.Random(seed)
    result = Result()
    while result.kills < kills:
        process = start(checkpoint, out, ftype)
        try:
            process.communicate(timeout=moments.uniform(0.2, 1) * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            result.kills += 1
            result.is_same &= not out.exists() or _digest(out) == expected
            result.resumed += out.with_name(out.name + ".part.journal").exists()
        else:
            result.is_same &= _digest(out) == expected
            result.finished += 1
            out.unlink()
    result.is_same &= _finish(checkpoint, out, ftype) == expected
    result.finished += 1
    return result


def start(checkpoint: Path, out: Path, ftype: str, *, slow: bool = False) -> subprocess.Popen[str]:
    """`l4 convert … --resume`; `slow` gives time to meet it at work."""
    child = CHILD.format(root=str(ROOT), pause=1 if slow else 0.01)
    options = ["-o", str(out), "--type", ftype, "--threads", "2", "--ram", "96M", "--resume"]
    return subprocess.Popen(
        [sys.executable, "-c", child, "convert", str(checkpoint), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _finish(checkpoint: Path, out: Path, ftype: str) -> str:
    """Let a conversion come to its end; its SHA-256."""
    process = start(checkpoint, out, ftype)
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(errors)
    digest = _digest(out)
    out.unlink()
    return digest


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--type", default="Q4_K_M")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out.gguf"
        result = kill_and_resume(args.checkpoint, out, args.type, kills=args.kills, seed=args.seed)
    print(json.dumps(asdict(result)))
    sys.exit(not result.is_same)


if __name__ == "__main__":
    main()
