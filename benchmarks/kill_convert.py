"""Kill `l4 convert` with SIGKILL at random moments, resume it, and compare with an undisturbed run.

    python -m benchmarks.kill_convert SOURCE [--type Q4_K_M] [--kills 30] [--seed 0]

SOURCE is a checkpoint, or a GGUF; then the command is `l4 quantize`.
Every round resumes the conversion that the last kill interrupted. A conversion that ends before it
is killed is compared and started again, until all kills are done. Ends with one JSON line; the exit
code is 1 if any byte differs.
"""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks import ROOT
from benchmarks.shared import make_parser


@dataclass
class Result:
    """What happened.

    kills: conversions that were killed.
    resumed: of these, the ones that left a journal to resume from.
    finished: conversions that ended by themselves.
    is_same: whether every finished file had the expected bytes.
    """

    kills: int = 0
    resumed: int = 0
    finished: int = 0
    is_same: bool = True


def kill_and_resume(source: Path, out: Path, ftype: str, *, kills: int, seed: int) -> Result:
    """Convert `source` to `out`, killing and resuming `kills` times. `out` is deleted."""
    started = time.monotonic()
    expected = _finish(source, out, ftype)
    seconds = time.monotonic() - started
    moments = random.Random(seed)
    result = Result()
    while result.kills < kills:
        process = start_conversion(source, out, ftype)
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
    result.is_same &= _finish(source, out, ftype) == expected
    result.finished += 1
    return result


def start_conversion(
    source: Path, out: Path, ftype: str, *, slow: bool = False
) -> subprocess.Popen[str]:
    """Start `l4 convert … --resume` in a child process, or `l4 quantize … --resume` of a GGUF.

    slow: pause for a second before every tile, so that the caller meets the conversion at work.
    """
    code = f"from benchmarks.kill_convert import run_l4; run_l4(pause={1 if slow else 0.01})"
    command = "quantize" if source.is_file() else "convert"
    options = ["-o", str(out.absolute()), "--type", ftype, "--threads", "2", "--ram", "112M"]
    return subprocess.Popen(
        [sys.executable, "-c", code, command, str(source.absolute()), *options, "--resume"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def run_l4(*, pause: float) -> None:
    """Run the real command with this process's arguments.

    It saves its journal as often as it can, and pauses for `pause` seconds before every tile. So a
    kill at a random moment meets more states of the files.
    """
    from convert.writing import pipeline
    from convert.writing.tiles import make_tiles
    from l4cli.app import main

    def make_slowly(*args: Any) -> Any:
        time.sleep(pause)
        return make_tiles(*args)

    sys.argv[0] = "l4"
    with (
        mock.patch.object(pipeline, "SECONDS_BETWEEN_SAVES", 0.02),
        mock.patch.object(pipeline, "make_tiles", make_slowly),
    ):
        main()


def _finish(source: Path, out: Path, ftype: str) -> str:
    """Let a conversion end by itself, delete its output, and return the output's SHA-256."""
    process = start_conversion(source, out, ftype)
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
    parser = make_parser(__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("--type", default="Q4_K_M")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out.gguf"
        result = kill_and_resume(args.source, out, args.type, kills=args.kills, seed=args.seed)
    print(json.dumps(asdict(result)))
    sys.exit(not result.is_same)


if __name__ == "__main__":
    main()
