"""A GGUF whose layers are as wide as Scout's, to measure speeds on: a few layers, all weights zero.

    python benchmarks/wide.py OUT.gguf [--layers 4] [--type Q4_K_M]

Only embeddings and routers are random, so that every expert has its share of the tokens: what a
weight is does not change how long it takes. The weights are a hole in the file; it takes a moment
to write, and `benchmarks/bench.py OUT.gguf` then compares l4 with llama-bench on experts of 23 MB.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)  # `convert` is the package
sys.path.insert(1, str(ROOT / "tests"))

from checkpoints import PUBLISHED_SHAPES, make_config  # noqa: E402
from hollow import write_header  # noqa: E402

from convert.gguf.fields import string  # noqa: E402
from convert.gguf.file import GGUFTensor, read_gguf  # noqa: E402
from convert.outline import outline  # noqa: E402
from convert.tokenizer.vocab import read_vocabulary, vocabulary_fields  # noqa: E402

TOKENIZER = ROOT / "l4cli" / "demo" / "checkpoint"
N_VOCAB = 4096  # the demo model's
EMBEDDINGS = "token_embd.weight"


def write_wide(path: Path, n_layers: int, ftype: str) -> int:
    """Write the file; its size in bytes, as it is read."""
    size = {"num_hidden_layers": n_layers, "vocab_size": N_VOCAB}
    config = make_config("scout", **PUBLISHED_SHAPES | size)
    model = outline(config, "benchmarks/wide.py")
    vocabulary = vocabulary_fields(read_vocabulary(TOKENIZER, N_VOCAB, config))
    tensors = dict(model.types(ftype))
    tensors[EMBEDDINGS] = GGUFTensor(tensors[EMBEDDINGS].shape, "F32", 0)
    fields = {"general.architecture": string(model.architecture), **model.fields, **vocabulary}
    written = read_gguf(write_header(path, fields, tensors)).tensors
    rng = np.random.default_rng(0)
    with path.open("r+b") as file:
        for name, tensor in written.items():
            if tensor.qtype == "F32":
                values = rng.standard_normal(tensor.n_values, np.float32)
                file.seek(tensor.offset)
                file.write(np.ones_like(values) if "norm" in name else values)
    return path.stat().st_size


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--type", default="Q4_K_M")
    options = parser.parse_args()
    print(f"{write_wide(options.out, options.layers, options.type) / 1e9:.1f} GB")
