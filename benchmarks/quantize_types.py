"""Compare `l4 convert` with the real llama-quantize for every ftype: whole files, byte for byte.

    python -m benchmarks.quantize_types --llama-quantize .../llama-quantize [--checkpoint DIR]
                                        [--imatrix FILE] [--types Q4_K_M,IQ2_XXS]

llama-quantize starts from the F32 GGUF that `l4 convert` makes of the same checkpoint. Without
--checkpoint, a tiny checkpoint is made; without --imatrix, an imatrix of random numbers. Prints a
table, then one JSON line; the exit code is 1 if any file differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from checkpoints import write_checkpoint
from quantizer import make_sums, write_imatrix, write_legacy_imatrix

import convert
from benchmarks.shared import L4, make_parser

SHAPES: dict[str, Any] = {"num_local_experts": 2, "num_hidden_layers": 2}

# An ftype, and options that both programs get.
OVERRIDES = [
    ("Q4_K_M", ["--pure"]),
    ("IQ4_XS", ["--pure", "--output-tensor-type", "q8_0", "--token-embedding-type", "q6_k"]),
    ("Q3_K_M", ["--tensor-type", r"blk\.0\.attn_v=q8_0", "--tensor-type", "ffn_down_exps=iq4_nl"]),
    ("Q2_K_S", ["--tensor-type", "ATTN_(Q|K)=f16", "--output-tensor-type", "q4_0"]),
]


def main() -> None:
    args = parse()
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch), args.llama_quantize, args.checkpoint)
        imatrix = args.imatrix or bench.imatrix
        print(f"{'TYPE':<10} {'WITHOUT':<10} WITH IMATRIX")
        results: dict[str, dict[str, str]] = {}
        for ftype in args.types or convert.FTYPES:
            without, with_imatrix = bench.compare(ftype, []), bench.compare(ftype, _with(imatrix))
            results[ftype] = {"without": without, "with": with_imatrix}
            print(f"{ftype:<10} {without:<10} {with_imatrix}", flush=True)
        for ftype, options in OVERRIDES:
            result = bench.compare(ftype, _with(imatrix) + options)
            results[f"{ftype} {' '.join(options)}"] = {"with": result}
            print(f"{ftype} {' '.join(options)}: {result}", flush=True)
        if not args.imatrix:
            result = bench.compare("Q4_K_M", _with(bench.legacy_imatrix))
            results["Q4_K_M legacy"] = {"with": result}
            print(f"Q4_K_M with an imatrix in the legacy format: {result}")
    outcomes = [outcome for each in results.values() for outcome in each.values()]
    summary = {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))}
    print(json.dumps({"outcomes": summary, "results": results}))
    sys.exit("differs" in summary)


class Bench:
    """One checkpoint, its F32 GGUF, its imatrix in both formats, and both programs."""

    def __init__(self, scratch: Path, llama_quantize: Path, checkpoint: Path | None) -> None:
        self._scratch = scratch
        self._llama_quantize = llama_quantize
        self._checkpoint = checkpoint or write_checkpoint(scratch / "model", dtype="F32", **SHAPES)
        plan = convert.plan(self._checkpoint, "F32", force=True)
        self._f32 = convert.convert(plan, scratch / "base.gguf").path
        sums = make_sums(plan)
        self.imatrix = write_imatrix(scratch / "imatrix.gguf", sums)
        self.legacy_imatrix = scratch / "imatrix.dat"
        write_legacy_imatrix(self.legacy_imatrix, sums)

    def compare(self, ftype: str, options: list[str]) -> str:
        """Return "identical", "differs", or "refused" if both programs refuse."""
        ours, theirs = self._l4_convert(ftype, options), self._quantize(ftype, options)
        if ours is None and theirs is None:
            return "refused"
        return "identical" if ours == theirs else "differs"

    def _l4_convert(self, ftype: str, options: list[str]) -> bytes | None:
        out = self._scratch / "ours.gguf"
        command = [*L4, "convert", str(self._checkpoint), "--overwrite", "-o", str(out)]
        return _output_file([*command, "--type", ftype, "--force", *options], out)

    def _quantize(self, ftype: str, options: list[str]) -> bytes | None:
        out = self._scratch / "theirs.gguf"
        return _output_file(
            [str(self._llama_quantize), *options, str(self._f32), str(out), ftype], out
        )


def _output_file(command: list[str], out: Path) -> bytes | None:
    """Run `command`; return the bytes of the file `out` that it writes, or None if it fails."""
    out.unlink(missing_ok=True)
    done = subprocess.run(command, capture_output=True, check=False)
    return out.read_bytes() if done.returncode == 0 else None


def _with(imatrix: Path) -> list[str]:
    return ["--imatrix", str(imatrix)]


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--llama-quantize", type=Path, required=True, help="the program's path")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--imatrix", type=Path)
    parser.add_argument(
        "--types", type=lambda text: text.split(","), help="separated by commas; all unless given"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
