"""Compare every type with the real llama-quantize: whole files, byte for byte.

    python benchmarks/quantize_types.py --llama-quantize .../llama-quantize [--checkpoint DIR]
                                   [--imatrix FILE] [--types Q4_K_M,IQ2_XXS]

The two steps start from the F32 GGUF that `l4 convert` makes of the same checkpoint; without
--checkpoint that is a tiny one, without --imatrix noise stands for its importance. Prints a table
and, last, one JSON line; exits 1 if any file differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from checkpoints import write_checkpoint  # noqa: E402
from quantizer import make_sums, write_imatrix, write_legacy_imatrix  # noqa: E402

import convert  # noqa: E402

SHAPES = {"num_local_experts": 2, "num_hidden_layers": 2}

# Type, and the same wishes to both.
OVERRIDES = [
    ("Q4_K_M", ["--pure"]),
    ("IQ4_XS", ["--pure", "--output-tensor-type", "q8_0", "--token-embedding-type", "q6_k"]),
    ("Q3_K_M", ["--tensor-type", r"blk\.0\.attn_v=q8_0", "--tensor-type", "ffn_down_exps=iq4_nl"]),
    ("Q2_K_S", ["--tensor-type", "ATTN_(Q|K)=f16", "--output-tensor-type", "q4_0"]),
]


def main() -> None:
    args = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch), args.llama_quantize, args.checkpoint)
        imatrix = args.imatrix or bench.imatrix
        print(f"{'TYPE':<10} {'WITHOUT':<10} WITH IMATRIX")
        results: dict[str, dict[str, str]] = {}
        for ftype in args.types or convert.FTYPES:
            plain, informed = bench.compare(ftype, []), bench.compare(ftype, _with(imatrix))
            results[ftype] = {"without": plain, "with": informed}
            print(f"{ftype:<10} {plain:<10} {informed}", flush=True)
        for ftype, wishes in OVERRIDES:
            result = bench.compare(ftype, _with(imatrix) + wishes)
            results[f"{ftype} {' '.join(wishes)}"] = {"with": result}
            print(f"{ftype} {' '.join(wishes)}: {result}", flush=True)
        if not args.imatrix:
            result = bench.compare("Q4_K_M", _with(bench.legacy))
            results["Q4_K_M legacy"] = {"with": result}
            print(f"Q4_K_M with a legacy imatrix: {result}")
    outcomes = [outcome for each in results.values() for outcome in each.values()]
    summary = {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))}
    print(json.dumps({"outcomes": summary, "results": results}))
    sys.exit("differs" in summary)


class Bench:
    """One checkpoint, its F32 GGUF, and the two ways to any other type."""

    def __init__(self, scratch: Path, llama_quantize: Path, checkpoint: Path | None) -> None:
        self._scratch = scratch
        self._llama_quantize = llama_quantize
        self._checkpoint = checkpoint or write_checkpoint(scratch / "model", dtype="F32", **SHAPES)
        plan = convert.plan(self._checkpoint, "F32", force=True)
        self._base = convert.convert(plan, scratch / "base.gguf").path
        sums = make_sums(plan)
        self.imatrix = write_imatrix(scratch / "imatrix.gguf", sums)
        self.legacy = scratch / "imatrix.dat"
        write_legacy_imatrix(self.legacy, sums)

    def compare(self, ftype: str, wishes: list[str]) -> str:
        """identical, differs, or refused (by both)."""
        ours, theirs = self._one_pass(ftype, wishes), self._two_steps(ftype, wishes)
        if ours is None and theirs is None:
            return "refused"
        return "identical" if ours == theirs else "differs"

    def _one_pass(self, ftype: str, wishes: list[str]) -> bytes | None:
        out = self._scratch / "ours.gguf"
        command = [
            sys.executable,
            "-m",
            "l4cli",
            "convert",
            str(self._checkpoint),
            "--overwrite",
            "-o",
            str(out),
        ]
        return _made([*command, "--type", ftype, "--force", *wishes], out)

    def _two_steps(self, ftype: str, wishes: list[str]) -> bytes | None:
        out = self._scratch / "theirs.gguf"
        return _made([str(self._llama_quantize), *wishes, str(self._base), str(out), ftype], out)


def _made(command: list[str], out: Path) -> bytes | None:
    """What a command wrote, None if it failed."""
    out.unlink(missing_ok=True)
    done = subprocess.run(command, capture_output=True, check=False, cwd=ROOT)
    return out.read_bytes() if done.returncode == 0 else None


def _with(imatrix: Path) -> list[str]:
    return ["--imatrix", str(imatrix)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--llama-quantize", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--imatrix", type=Path)
    parser.add_argument("--types", type=lambda text: text.split(","))
    return parser.parse_args()


if __name__ == "__main__":
    main()
