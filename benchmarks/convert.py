"""Compare `l4 convert` with llama.cpp's two steps and with ggml's bare kernels, in one run.

    python -m benchmarks.convert --billions 2.6 --python PYTHON_WITH_TORCH
    python -m benchmarks.convert --checkpoint DIR --type Q6_K --threads 8 --python …

The source is a checkpoint in Scout's proportions (made as by benchmarks.make_checkpoint) unless
--checkpoint names one. It is converted by l4, and by convert_hf_to_gguf.py followed by
llama-quantize, and the outputs are compared tensor by tensor. The bare kernels quantize the same
weights from memory, with as many threads. Ends with one JSON line; the exit code is 1 if any tensor
differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.build_peer import add_options, find_peer
from benchmarks.shared import L4, Cost, make_parser, measure, note, output_of

_PIECE = 1 << 25  # how many weights the bare kernels have in memory at a time


def main() -> None:
    args = _arguments()
    if args.bare is not None:
        print(json.dumps(bare_kernels(args.bare, args.type, args.threads)))
        return
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        result = compare(args, Path(scratch))
    print(json.dumps(result))
    sys.exit(bool(result["tensors_that_differ"]))


def compare(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Convert one checkpoint in all ways; return their costs and the differences in the outputs."""
    checkpoint = args.checkpoint or _make_checkpoint(scratch / "model", args.kind, args.billions)
    out = scratch / "out"
    out.mkdir()
    ours, theirs, bf16 = out / "ours.gguf", out / "theirs.gguf", out / "bf16.gguf"

    _warm(checkpoint)
    options = ["--type", args.type, "--threads", args.threads, "--force"]
    cost = _show(
        "l4 convert",
        measure([*L4, "convert", checkpoint, "--overwrite", "-o", ours, *options], out),
    )

    bare = _bare_in_a_process(checkpoint, args)
    note(f"{'bare kernels':<20} {bare['wall']:8.1f} s")

    peer = find_peer(args)
    _warm(checkpoint)
    first = _show("convert_hf_to_gguf", peer.convert_to_bf16(checkpoint, bf16))
    intermediate = bf16.stat().st_size
    second = peer.quantize(bf16, theirs, args.type, threads=args.threads)
    two_steps = first + _show("llama-quantize", second)

    tensors, metadata = differences(ours, theirs)
    for line in (*tensors, *metadata):
        note(line)
    return {
        "type": args.type,
        "threads": args.threads,
        "ours": asdict(cost),
        "two_steps": asdict(two_steps),
        "bare": bare,
        "wall_of_two_steps": round(cost.wall / two_steps.wall, 3),
        "wall_of_bare": round(cost.wall / bare["wall"], 3),
        "cpu_of_bare": round(cost.cpu / bare["cpu"], 3),
        "disk_beyond_output": cost.disk - _disk_space(ours),
        "their_intermediate_file": intermediate,
        "tensors_that_differ": tensors,
        "metadata_that_differs": metadata,
    }


def bare_kernels(checkpoint: Path, ftype: str, threads: int) -> dict[str, float]:
    """Return the seconds ("wall", "cpu") that ggml_quantize_chunk alone takes for all weights."""
    import numpy as np

    import convert
    from convert.gguf.qtypes import QTYPES
    from convert.kernels import quantize
    from convert.writing.pipeline import open_sources
    from convert.writing.tiles import cut, float32_blocks

    plan = convert.plan(checkpoint, ftype, force=True)
    library = quantize._library()
    spent = {"wall": 0.0, "cpu": 0.0}
    with open_sources(plan) as reader, ThreadPoolExecutor(threads) as pool:
        for tensor in plan.tensors:
            qtype = QTYPES[tensor.qtype]

            def kernel(rows: Any, qtype: Any = qtype) -> None:
                out = np.empty(qtype.row_bytes(rows.shape[1]) * len(rows), np.uint8)
                library.ggml_quantize_chunk(
                    qtype.id, rows.ctypes.data, out.ctypes.data, 0, *rows.shape, None
                )

            for tile in cut(tensor, _PIECE):
                rows = np.concatenate([block for _, block in float32_blocks(tile, reader)])
                shares = [share for share in np.array_split(rows, threads) if len(share)]
                wall, cpu = time.monotonic(), time.process_time()
                list(pool.map(kernel, shares))
                spent["wall"] += time.monotonic() - wall
                spent["cpu"] += time.process_time() - cpu
    return spent


def differences(ours: Path, theirs: Path) -> tuple[list[str], list[str]]:
    """Return the differences of two GGUF files in tensors (type, shape, bytes) and in metadata.

    The files are read by gguf-py, which is independent of l4's reader.
    """
    import gguf

    mine, other = gguf.GGUFReader(ours), gguf.GGUFReader(theirs)
    return list(_tensor_differences(mine, other)), list(_field_differences(mine, other))


def _tensor_differences(ours: Any, theirs: Any) -> Iterator[str]:
    if [t.name for t in ours.tensors] != [t.name for t in theirs.tensors]:
        yield "the tensors are not the same, or not in the same order"
    other = {tensor.name: tensor for tensor in theirs.tensors}
    for tensor in ours.tensors:
        peer = other.get(tensor.name)
        if peer is None or tensor.tensor_type != peer.tensor_type:
            yield f"{tensor.name}: {tensor.tensor_type.name}, not {peer and peer.tensor_type.name}"
        elif list(tensor.shape) != list(peer.shape) or (tensor.data != peer.data).any():
            yield f"{tensor.name}: different shape or bytes"


def _field_differences(ours: Any, theirs: Any) -> Iterator[str]:
    for key in dict.fromkeys((*theirs.fields, *ours.fields)):
        if key.startswith("GGUF."):  # counts, which follow from the other fields
            continue
        mine, other = (
            side.fields[key].contents() if key in side.fields else None for side in (ours, theirs)
        )
        if mine != other:
            yield f"{key}: {str(mine)[:60]}, not {str(other)[:60]}"


def _make_checkpoint(path: Path, kind: str, billions: float) -> Path:
    # In a child process: the peak memory of this process would count as its later children's.
    make = [sys.executable, "-m", "benchmarks.make_checkpoint", path, "--kind", kind]
    words = [str(word) for word in (*make, "--billions", billions)]
    subprocess.run(words, check=True, stdout=sys.stderr)
    return path


def _bare_in_a_process(checkpoint: Path, args: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.convert", "--bare", checkpoint]
    options = ["--type", args.type, "--threads", args.threads]
    spent: dict[str, float] = json.loads(output_of([*command, *options]))
    return spent


def _warm(checkpoint: Path) -> None:
    """Read the checkpoint once: every contender finds it in the page cache, if it fits there."""
    for path in sorted(checkpoint.glob("*.safetensors")):
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass


def _show(name: str, cost: Cost) -> Cost:
    """Print the cost of the program `name` and return it."""
    note(
        f"{name:<20} {cost.wall:8.1f} s {cost.cpu:8.1f} s CPU "
        f"{cost.rss / 1e6:8.0f} MB of memory {cost.disk / 1e6:8.0f} MB of disk"
    )
    return cost


def _disk_space(path: Path) -> int:
    return path.stat().st_blocks * 512


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, help="convert this one; unless given, make one")
    parser.add_argument(
        "--billions",
        type=float,
        default=2.6,
        help="weights of the checkpoint to make, in billions (%(default)s)",
    )
    parser.add_argument(
        "--kind",
        choices=("scout", "maverick"),
        default="scout",
        help="whose proportions the checkpoint to make has (%(default)s)",
    )
    parser.add_argument("--type", default="Q4_K_M")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--scratch", type=Path, help="a folder for all files; the system's for temporary files"
    )
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)  # a child: only the kernels
    add_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
