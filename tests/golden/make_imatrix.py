"""Make imatrix.npz: llama-imatrix's sums and counts for tiny models on perplexity.txt.

    python tests/golden/make_imatrix.py

llama-imatrix is built if it is missing (`benchmarks/build_peer.py`; $L4_PEER names its folder). It
computes one chunk at a time (-b), as l4 does. For each kind of checkpoint the file holds
`KIND TENSOR.in_sum2`, `KIND TENSOR.counts` and `KIND fingerprint`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

import checkpoints  # noqa: E402
import decoders  # noqa: E402

import convert  # noqa: E402
from benchmarks.build_peer import find_peer  # noqa: E402

N_CTX, NUM_CHUNKS = 64, 6
KINDS = ("scout", "mixtral")  # one expert a token beside plain layers; two experts a token


def write_model(kind: str, folder: Path) -> tuple[Path, str]:
    """Write a tiny model as F32; return the GGUF and the fingerprint of its checkpoint."""
    path, gguf = folder / kind, folder / f"{kind}.gguf"
    if kind in decoders.KINDS:
        decoders.write_decoder(path, kind)
    else:
        checkpoints.write_checkpoint(path, kind=kind)
    convert.convert(convert.plan(path, "F32"), gguf)
    return gguf, checkpoints.fingerprint(path)


def main() -> None:
    peer = find_peer(argparse.Namespace(llama_cpp=None, build=None, python=Path(sys.executable)))
    program = peer.program("llama-imatrix")
    golden: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for kind in KINDS:
            gguf, fingerprint = write_model(kind, Path(scratch))
            out = Path(scratch) / f"{kind}.imatrix.gguf"
            options = ("-c", N_CTX, "-b", N_CTX, "--chunks", NUM_CHUNKS, "-t", 2, "--no-ppl")
            command = (program, "-m", gguf, "-f", HERE / "perplexity.txt", "-o", out, *options)
            subprocess.run([str(word) for word in command], check=True)
            golden[f"{kind} fingerprint"] = np.asarray(fingerprint)
            for tensor in GGUFReader(out).tensors:
                golden[f"{kind} {tensor.name}"] = np.array(tensor.data)
    np.savez_compressed(HERE / "imatrix.npz", **golden)
    print(f"wrote {HERE / 'imatrix.npz'}")


if __name__ == "__main__":
    main()
