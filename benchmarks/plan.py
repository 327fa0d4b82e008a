"""Compare planned with measured memory: real loads, real prompts, real answers.

    python -m benchmarks.plan MODEL.gguf … [--contexts 4k,32k,128k] [--kv-types f16,q8_0,q4_0]
                              [--sequences 1,4,16] [--depth 1024]

Each case is a process of its own that starts as `l4 run` does. It loads the model, prefills a
prompt of --depth tokens in each of its sequences ("full": as long as the context), decodes 16
tokens in each, and reports its peak of memory that is not a page of a file (RssAnon). That is
compared with the plan for the same context, filled to the same depth. Weights that stay in the
mapped file are pages of that file and do not count: the plan's figure for them is shown next to the
measured pages of all mapped files, libraries included (RssFile). Prints one line per case, then one
JSON line.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import threading
import time
from contextlib import redirect_stderr
from itertools import product
from pathlib import Path

from benchmarks.shared import make_parser, memory, output_of
from l4cli.app import app
from l4cli.commands.options import parse_tokens
from l4cli.fit.hardware import probe
from l4cli.fit.memory import MemoryUse, memory_use
from l4cli.fit.shape import ModelShape, shape_of_file

MIB = 1 << 20
N_DECODED = 16
N_UBATCH = 512


def measure(model: str, n_ctx: int, n_seq_max: int, kv_type: str, depth: int) -> dict[str, int]:
    """Load, prefill and decode; return the peaks of RssAnon and RssFile in bytes."""
    peak = {"RssAnon": 0, "RssFile": 0}
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            now = memory()
            for key in peak:
                peak[key] = max(peak[key], now[key])
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run(Path(model), n_ctx, n_seq_max, kv_type, depth)
    finally:
        done.set()
        watcher.join()
    return peak


def run(path: Path, n_ctx: int, n_seq_max: int, kv_type: str, depth: int) -> None:
    """Prefill every sequence, then decode in all of them at once until they have `depth` tokens."""
    from l4cli.engine.llamacpp import LlamaBackend, LlamaModel
    from l4cli.engine.types import BatchItem
    from l4cli.prompt import PromptEncoder

    start_as_a_command(path)
    weights = LlamaModel(path)
    PromptEncoder(weights)
    backend = LlamaBackend(
        weights,
        n_ctx=n_ctx,
        n_seq_max=n_seq_max,
        n_batch=N_UBATCH,
        n_ubatch=N_UBATCH,
        kv_type=kv_type,
        unified=n_seq_max == 1,
    )
    length = depth - N_DECODED
    for seq_id in range(n_seq_max):
        for start in range(0, length, N_UBATCH):
            count = min(N_UBATCH, length - start)
            tokens = [(seq_id + start + i) % 4000 + 1 for i in range(count)]
            backend.decode([BatchItem(seq_id, start, tokens, start + count == length)])
    for pos in range(length, depth):
        backend.decode([BatchItem(seq_id, pos, [7], True) for seq_id in range(n_seq_max)])
        backend.logits(0).argmax()
    backend.close()
    weights.close()


def start_as_a_command(model: Path) -> None:
    """Do a dry run of `l4 run`: the plan includes the memory that the command line takes."""
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()):
        rows = Path(folder, "rows.jsonl")
        rows.write_text('{"prompt": "hello"}')
        app(["run", str(rows), "-m", str(model), "--dry-run"], standalone_mode=False)


def planned(
    shape: ModelShape, n_ctx: int, n_seq_max: int, kv_type: str, depth: int, repacks: frozenset[str]
) -> MemoryUse:
    """Return the plan for one case; `repacks` are the qtypes that this CPU repacks."""
    return memory_use(
        shape,
        n_ctx=n_ctx,
        n_seq_max=n_seq_max,
        n_ubatch=N_UBATCH,
        kv_type=kv_type,
        unified=n_seq_max == 1,
        repack=repacks,
        depth=depth,
    )


def compare(model: str, options: argparse.Namespace, repacks: frozenset[str]) -> list[float]:
    """Measure all cases of one model; return planned / measured - 1 for each."""
    shape = shape_of_file(Path(model))
    errors = []
    cases = product(options.contexts, options.kv_types, options.sequences)
    for n_ctx, kv_type, n_seq_max in cases:
        longest = n_ctx // n_seq_max
        depth = longest if options.depth == "full" else min(longest, int(options.depth))
        use = planned(shape, n_ctx, n_seq_max, kv_type, depth, repacks)
        case = json.dumps([model, n_ctx, n_seq_max, kv_type, depth])
        out = output_of([sys.executable, "-m", "benchmarks.plan", "--case", case])
        peak: dict[str, int] = json.loads(out.splitlines()[-1])
        in_file = use.weights - use.repacked
        expected = use.total - in_file
        error = expected / peak["RssAnon"] - 1
        errors.append(error)
        print(
            f"{Path(model).name:28} {n_ctx:>7} {kv_type:5} x{n_seq_max:<2} depth {depth:>6}: "
            f"planned {expected / MIB:8.1f} MiB, measured {peak['RssAnon'] / MIB:8.1f} MiB "
            f"({error:+.1%}); mapped weights {in_file / MIB:7.1f} MiB, "
            f"all file pages {peak['RssFile'] / MIB:7.1f} MiB",
            flush=True,
        )
    return errors


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL.gguf")
    parser.add_argument("--contexts", default="4k,32k,128k", help="n_ctx (%(default)s)")
    parser.add_argument("--kv-types", default="f16,q8_0,q4_0", help="(%(default)s)")
    parser.add_argument("--sequences", default="1,4,16", help="n_seq_max (%(default)s)")
    parser.add_argument(
        "--depth", default="1024", help='tokens in each sequence, or "full" (%(default)s)'
    )
    parser.add_argument("--case", help=argparse.SUPPRESS)  # a child: measure only this case
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.case:
        print(json.dumps(measure(*json.loads(options.case))))
        return
    options.contexts = [parse_tokens(text) for text in options.contexts.split(",")]
    options.kv_types = options.kv_types.split(",")
    options.sequences = [int(text) for text in options.sequences.split(",")]
    repacks = probe().repacks
    errors = {model: compare(model, options, repacks) for model in options.models}
    worst = max((abs(error) for each in errors.values() for error in each), default=0.0)
    result = {
        "cases": sum(map(len, errors.values())),
        "worst_error": round(worst, 4),
        "worst_error_by_model": {
            Path(model).name: round(max(map(abs, each)), 4) for model, each in errors.items()
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
