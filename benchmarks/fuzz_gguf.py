"""Damaged GGUFs by the thousand: does reading one ever crash, hang, or take memory without bound?

    python benchmarks/fuzz_gguf.py [--files 10000] [--seed 0] [--loads 300] [--absurd] [--keep DIR]

Headers of tiny models, whole and split, are damaged and read back: by the header reader, every
item of every array, by what describes them, and by the vetting before llama.cpp. A file may be read
or refused with a ConvertError, nothing else. Then the first `--loads` that were let through are
loaded and run by llama.cpp, each in a process of its own: it may refuse, too, but not die. With
`--absurd` so is every model with one number of its metadata made absurd, a few thousand. The files
that did wrong are kept. The last line is JSON.
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

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from checkpoints import write_checkpoint  # noqa: E402
from decoders import KINDS, write_decoder  # noqa: E402
from gguf_fuzz import absurd, damaged, edited, read_header, write_hollow  # noqa: E402

import convert  # noqa: E402
from convert.gguf.array import GGUFArray  # noqa: E402
from convert.gguf.file import read_gguf  # noqa: E402
from convert.gguf.vetting import vet  # noqa: E402

SMALL = {"num_hidden_layers": 4, "num_local_experts": 2}
MOST_SECONDS = 10  # a file; then it hangs
MOST_MEMORY = 2 << 30  # bytes of address space beyond what the process has to begin with


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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--loads", type=int, default=300)
    parser.add_argument("--absurd", action="store_true")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    return parser.parse_args()


def make_files(scratch: Path) -> list[Path]:
    """A tiny model of each architecture, and one that is split."""
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
) -> tuple[Counter[str], float, list[bytes]]:
    """What became of every file, the longest that one took, and those that were let through."""
    draw = random.Random(options.seed)
    streams = [(damaged(header, draw), n_data) for header, n_data in seeds]
    outcomes: Counter[str] = Counter()
    slowest, passed = 0.0, []
    path = scratch / "damaged.gguf"
    signal.signal(signal.SIGALRM, on_alarm)
    for index, (stream, n_data) in zip(
        range(options.files), itertools.cycle(streams), strict=False
    ):
        header = next(stream)
        write_hollow(path, header, n_data)
        started = time.perf_counter()
        signal.alarm(MOST_SECONDS)
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
    """What became of it, and whether llama.cpp would be given it."""
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
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MOST_MEMORY, resource.RLIM_INFINITY))


def load_all(passed: list[tuple[bytes, int]], keep: Path) -> Counter[str]:
    """How llama.cpp takes what the vetting let through; each in a process of its own."""
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
    """How llama.cpp takes whole models with one number of the metadata made absurd."""
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
    import l4cli.loading.load  # noqa: F401  once, here: every child has it then

    child = os.fork()
    if not child:
        os._exit(run_model(path))
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return ("answered", "failed", "refused")[os.WEXITSTATUS(status)]


def run_model(path: Path) -> int:
    """In a process of its own: 0 if it answers, 2 if it is refused."""
    from l4cli import L4Error, load

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.environ["GGML_NO_BACKTRACE"] = "1"
    signal.alarm(60)
    try:
        with load(path, ctx=512, threads=1) as llm:
            llm.generate("hello, 你好 \U0001f999", max_tokens=3, temperature=0)
    except L4Error as error:
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
