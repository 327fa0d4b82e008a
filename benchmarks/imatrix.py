"""Compare `l4 imatrix` with llama-imatrix: every sum, processor time, memory, quantized bytes.

    python -m benchmarks.imatrix MODEL.gguf [--text FILE] [--ctx 512] [--chunks 8] [--type Q4_K_M]

llama-imatrix is of the llama.cpp that l4 runs on; it is built if it is missing. It runs twice: with
one chunk at a time (-b as large as --ctx, up to 512), as l4 reads, and with its default, four
chunks of 512 together. There its own numbers differ a little from those of the first way, because
llama.cpp rounds differently; the differences between its two files are shown, too. Without --text,
both get l4's built-in text.

Of a last batch of three chunks, llama-imatrix's default leaves out six tokens: it takes no inputs
of fewer than 16 tokens. So the number of chunks should be a multiple of 4.

With --type, the model is quantized with both files, and the tensors' bytes are compared.

The last line is JSON: numbers of tensors, how many are equal, the greatest relative difference, the
ratio of processor times (theirs / ours: 1.1 means that ours takes 10% less), peaks of memory that
is no page of a file.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.build_peer import add_options, find_peer
from benchmarks.eval import Run, run
from benchmarks.shared import L4, make_parser
from convert.gguf.file import read_gguf
from l4cli.eval.texts import built_in_text


@dataclass(frozen=True)
class Difference:
    """How two imatrix files differ.

    equal: tensors with the same bits. greatest: the greatest relative difference of two sums.
    where: the tensor that has it. same_file: whether all bytes of the files are equal.
    """

    tensors: int
    equal: int
    greatest: float
    where: str
    same_file: bool


def compare(ours: Path, theirs: Path) -> Difference:
    """Compare two imatrix files; end the script if they have other tensors or counts."""
    one, other = read_gguf(ours).tensors, read_gguf(theirs).tensors
    if one.keys() != other.keys():
        raise SystemExit(f"only one file has {sorted(one.keys() ^ other.keys())}")
    equal, greatest, where = 0, 0.0, ""
    for name in one:
        a, b = (
            np.fromfile(path, "<f4", tensor.n_values, offset=tensor.offset).astype(float)
            for path, tensor in ((ours, one[name]), (theirs, other[name]))
        )
        if np.array_equal(a, b):
            equal += 1
            continue
        if name.endswith(".counts"):
            print(f"{name}: {int(a.sum()):,} and {int(b.sum()):,} tokens")
        difference = float((np.abs(a - b) / np.maximum(np.abs(b), 1e-30)).max())
        if difference > greatest:
            greatest, where = difference, name
    same = ours.read_bytes() == theirs.read_bytes()
    return Difference(len(one), equal, greatest, where, same)


def quantized(model: Path, imatrix: Path, ftype: str, out: Path) -> list[bytes]:
    """Quantize a model with an imatrix; return the bytes of each tensor."""
    options = ("--type", ftype, "-o", out, "--requantize", "--overwrite")
    run([*L4, "quantize", model, "--imatrix", imatrix, *options])
    data = out.read_bytes()
    return [data[each.offset :][: each.n_bytes] for each in read_gguf(out).tensors.values()]


def show(name: str, difference: Difference) -> None:
    same = ", the same file" if difference.same_file else ""
    worst = f" ({difference.where})" if difference.where else ""
    print(
        f"{name}: {difference.equal} of {difference.tensors} tensors are equal{same}; the greatest "
        f"relative difference is {difference.greatest:.2g}{worst}"
    )


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--ctx", type=int, default=512)
    parser.add_argument("--chunks", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--type", help="quantize with both files")
    add_options(parser)
    return parser.parse_args()


def main() -> None:
    options = parse()
    program = find_peer(options).program("llama-imatrix")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        text = options.text
        if text is None:
            text = folder / "text.txt"
            text.write_text(built_in_text().content, encoding="utf-8")
        alone, together, ours = (folder / f"{name}.gguf" for name in ("alone", "together", "ours"))
        common = ("--chunks", options.chunks, "-t", options.threads)

        def peer(out: Path, *more: object) -> Run:
            read = ("-m", options.model, "-f", text, "-c", options.ctx, "--no-ppl", "-o", out)
            return run([program, *read, *common, *more])

        theirs = peer(alone, "-b", min(options.ctx, 512))
        peer(together)
        own = run([*L4, "imatrix", options.model, "--text", text, "--ctx", options.ctx,
                   "-o", ours, *common])  # fmt: skip
        found = {
            "one chunk at a time": compare(ours, alone),
            "its default": compare(ours, together),
            "its two files": compare(alone, together),
        }
        for name, difference in found.items():
            show(name, difference)
        result: dict[str, Any] = {name: asdict(difference) for name, difference in found.items()}
        result["cpu_ratio"] = round(theirs.cpu / own.cpu, 3)
        result["anonymous"] = {"ours": own.anonymous, "theirs": theirs.anonymous}
        if options.type:
            result["quantized"] = {}
            files = {"one chunk at a time": alone, "its default": together}
            mine = quantized(options.model, ours, options.type, folder / "q.gguf")
            for name, file in files.items():
                other = quantized(options.model, file, options.type, folder / "r.gguf")
                same = sum(a == b for a, b in zip(mine, other, strict=True))
                off = sum(
                    int((np.frombuffer(a, "u1") != np.frombuffer(b, "u1")).sum())
                    for a, b in zip(mine, other, strict=True)
                )
                total = sum(map(len, mine))
                print(
                    f"{options.type} with the file of {name}: {same} of {len(mine)} tensors have "
                    f"the same bytes; {off:,} of {total:,} bytes differ"
                )
                result["quantized"][name] = {"tensors": len(mine), "equal": same, "bytes_off": off}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
