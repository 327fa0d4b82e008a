"""Make a GGUF for measuring speed: a few layers as wide as Scout's, nearly all weights zero.

    python -m benchmarks.make_wide_gguf OUT.gguf [--layers 4] [--type Q4_K_M]
    python -m benchmarks.make_wide_gguf OUT.gguf --vocab 202048 --narrow --type Q8_0

Only embeddings and routers are random, which spreads the tokens over all experts. The values of the
other weights do not affect speed: they are a hole in a sparse file, which takes a moment to write.
`python -m benchmarks.bench OUT.gguf` then compares l4 with llama-bench on experts of 23 MB.

--vocab fills the demo model's vocabulary up, and --narrow makes everything but the vocabulary
small: `python -m benchmarks.eval` then measures what a large vocabulary takes in memory.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from checkpoints import PUBLISHED_SHAPES, make_config
from hollow import write_header

from benchmarks import ROOT
from benchmarks.shared import make_parser
from convert.gguf.fields import string
from convert.gguf.file import GGUFTensor, read_gguf
from convert.outline import outline
from convert.tokenizer.vocab import read_vocabulary, vocabulary_fields

TOKENIZER = ROOT / "l4cli" / "demo" / "checkpoint"
N_VOCAB = 4096  # the demo model's
EMBEDDINGS = "token_embd.weight"


def write_wide_gguf(
    path: Path, n_layers: int, ftype: str, n_vocab: int = N_VOCAB, *, is_narrow: bool = False
) -> int:
    """Write the file; return its size in bytes, the hole included.

    is_narrow: whether layers are as wide as the tests' tiny models, not as Scout's.
    """
    size = {"num_hidden_layers": n_layers, "vocab_size": n_vocab}
    config = make_config("scout", **({} if is_narrow else PUBLISHED_SHAPES) | size)
    model = outline(config, "benchmarks/make_wide_gguf.py")
    vocabulary = vocabulary_fields(read_vocabulary(TOKENIZER, n_vocab, config))
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
                file.write((np.ones_like(values) if "norm" in name else values).tobytes())
    return path.stat().st_size


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--type", default="Q4_K_M")
    parser.add_argument("--vocab", type=int, default=N_VOCAB)
    parser.add_argument("--narrow", action="store_true")
    args = parser.parse_args()
    n_bytes = write_wide_gguf(args.out, args.layers, args.type, args.vocab, is_narrow=args.narrow)
    print(f"{n_bytes / 1e9:.1f} GB")


if __name__ == "__main__":
    main()
