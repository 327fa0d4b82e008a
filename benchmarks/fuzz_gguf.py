"""Read damaged GGUFs by the thousand: does reading one ever crash, hang, or take memory unbounded?

    python -m benchmarks.fuzz_gguf [--files 10000] [--seed 0] [--loads 300] [--absurd] [--keep DIR]

The headers of tiny models, of whole and split files, are damaged and read back: by the header
reader with every item of every array, by `convert.describe`, and by the check that precedes loading
in llama.cpp. A file may be read, or refused with a ConvertError; any other outcome is wrong.

Then llama.cpp loads and runs the first --loads files that passed the check, each in a process of
its own: it may refuse them, but not crash. With --absurd it also gets every model with one number
of its metadata made absurd, a few thousand files. Files with a wrong outcome are kept in DIR. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from checkpoints import write_checkpoint
from decoders import KINDS, write_decoder
from gguf_fuzz import absurd, damaged, edited, read_header, write_hollow

import convert
from benchmarks.shared import make_parser
from convert.gguf.array import GGUFArray
from convert.gguf.file import read_gguf
from convert.gguf.vetting import vet

SMALL: dict[str, Any] = {"num_hidden_layers": 4, "num_local_experts": 2}
MAX_SECONDS = 10  # a file that takes longer to read counts as hanging
MAX_MEMORY = 2 << 30  # bytes of address space that reading may add to what is in use before


def main() -> int:
    options = parse()
    options.keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        files = make_files(Path(scratch))
        seeds = [(read_header(file), file.stat().st_size) for file in files]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        limit_memory()
        outcomes, slowest, passed = read_all(seeds, Path(scratch), options)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        loads = load_all(passed[: options.loads], options.keep)
        if options.absurd:
            loads += load_absurd(files, options.keep)
    wrong = sum(n for outcome, n in outcomes.items() if outcome not in ("read", "refused"))
    died = sum(n for outcome, n in loads.items() if outcome.startswith("signal"))
    print(
        json.dumps(
            {
                "files": options.files,
                "reader": dict(outcomes),
                "slowest_ms": round(1000 * slowest, 1),
                "memory_grown_bytes": grown,
                "llama_cpp": dict(loads),
            }
        )
    )
    return int(wrong + died > 0)


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--files", type=int, default=10_000, help="how many damaged files to read (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--loads", type=int, default=300, help="how many of them to load (%(default)s)"
    )
    parser.add_argument(
        "--absurd", action="store_true", help="also load models with one absurd number"
    )
    parser.add_argument(
        "--keep", type=Path, default=Path("fuzz-failures"), metavar="DIR", help="(%(default)s)"
    )
    return parser.parse_args()


def make_files(scratch: Path) -> list[Path]:
    """Make a tiny model of each architecture, and one more in split files."""
    scout = write_checkpoint(scratch / "scout", **SMALL)
    files = [
        convert.convert(convert.plan(scout, "Q8_0"), scratch / "scout.gguf").path,
        convert.convert(
            convert.plan(scout, "Q8_0"), scratch / "part.gguf", split=convert.Split(max_tensors=9)
        ).path,
    ]
    for kind in KINDS:
        other = write_decoder(scratch / kind, kind, num_hidden_layers=1)
        plan = convert.plan(other, "F32")
        files.append(convert.convert(plan, scratch / f"{kind}.gguf").path)
    return files


def read_all(
    seeds: list[tuple[bytes, int]], scratch: Path, options: argparse.Namespace
) -> tuple[Counter[str], float, list[tuple[bytes, int]]]:
    """Read damaged versions of all `seeds`, which are headers and their bytes of tensor data.

    Return how often each outcome occurred, the most seconds that one file took, and the files that
    passed the check, again as headers and bytes of data.
    """
    draw = random.Random(options.seed)
    streams = [(damaged(header, draw), n_data) for header, n_data in seeds]
    outcomes: Counter[str] = Counter()
    slowest, passed = 0.0, list[tuple[bytes, int]]()
    path = scratch / "damaged.gguf"
    signal.signal(signal.SIGALRM, on_alarm)
    for index, (stream, n_data) in zip(
        range(options.files), itertools.cycle(streams), strict=False
    ):
        header = next(stream)
        write_hollow(path, header, n_data)
        started = time.perf_counter()
        signal.alarm(MAX_SECONDS)
        outcome, is_vetted = read_one(path)
        signal.alarm(0)
        slowest = max(slowest, time.perf_counter() - started)
        outcomes[outcome] += 1
        if outcome not in ("read", "refused"):
            (options.keep / f"{options.seed}-{index}.gguf").write_bytes(header)
        elif is_vetted:
            passed.append((header, n_data))
    return outcomes, slowest, passed


def on_alarm(_number: int, _frame: object) -> None:
    raise TimeoutError


def read_one(path: Path) -> tuple[str, bool]:
    """Return "read", "refused" or an exception's name, and whether the file passed the check."""
    is_vetted = False
    try:
        for value in read_gguf(path).fields.values():
            if isinstance(value, GGUFArray):
                list(value)
        convert.describe(path)
        vet(path)
        is_vetted = True
    except convert.ConvertError:
        return "refused", False
    except BaseException as error:
        return f"{type(error).__name__}", False
    return "read", is_vetted


def limit_memory() -> None:
    """Limit the address space of this process to MAX_MEMORY more than it uses now."""
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MAX_MEMORY, resource.RLIM_INFINITY))


def load_all(passed: list[tuple[bytes, int]], keep: Path) -> Counter[str]:
    """Load the files that passed the check; return how often each outcome occurred."""
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    outcomes: Counter[str] = Counter()
    path = keep / "loading.gguf"
    for index, (header, n_data) in enumerate(passed):
        write_hollow(path, header, n_data)
        outcome = load_one(path)
        outcomes[outcome] += 1
        if outcome.startswith("signal"):
            (keep / f"llama-{index}.gguf").write_bytes(header)
    path.unlink(missing_ok=True)
    return outcomes


def load_absurd(files: list[Path], keep: Path) -> Counter[str]:
    """Load all `files` with one number of the metadata made absurd; return the outcomes."""
    outcomes: Counter[str] = Counter()
    for file in files:
        for change in absurd(file):
            path = edited(file, keep / "absurd.gguf", **change)
            outcome = load_one(path) if read_one(path)[1] else "refused"
            outcomes[outcome] += 1
            if outcome.startswith("signal"):
                print(f"{file.name}: {change}: {outcome}", flush=True)
    (keep / "absurd.gguf").unlink(missing_ok=True)
    return outcomes


def load_one(path: Path) -> str:
    """Load and run a model in a child process; return the outcome, such as "signal 11"."""
    import l4cli.loading.load  # noqa: F401  imported here once, not in every child

    child = os.fork()
    if not child:
        try:
            os._exit(run_model(path))
        finally:
            os.abort()  # an unexpected exception counts as a crash
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return ("answered", "failed", "refused")[os.WEXITSTATUS(status)]


def run_model(path: Path) -> int:
    """Load and run a model in this process; return l4's exit code (0 answered, 2 refused)."""
    from l4cli import L4Error, load

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.environ["GGML_NO_BACKTRACE"] = "1"
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a model that hangs ends with "signal 14"
    signal.alarm(60)
    try:
        with load(path, ctx=512, threads=1) as llm:
            llm.generate("hello, 你好 \U0001f999", max_tokens=3, temperature=0)
    except L4Error as error:
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
