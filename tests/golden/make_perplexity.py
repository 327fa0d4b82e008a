"""Make perplexity.json: llama-perplexity's figures for the demo model on perplexity.txt.

    python tests/golden/make_perplexity.py

llama-perplexity is built if it is missing (`benchmarks/build_peer.py`; $L4_PEER names its folder).
The demo model as Q8_0 is the reference, as Q4_K_M the model.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from benchmarks.build_peer import find_peer  # noqa: E402
from benchmarks.eval import figures_of, perplexity  # noqa: E402
from l4cli.demo import demo_gguf  # noqa: E402

N_CTX, NUM_CHUNKS = 128, 8


def main() -> None:
    peer = find_peer(argparse.Namespace(llama_cpp=None, build=None, python=Path(sys.executable)))
    program = peer.program("llama-perplexity")
    base, model = demo_gguf("Q8_0"), demo_gguf("Q4_K_M")
    with tempfile.TemporaryDirectory() as scratch:
        logits = Path(scratch) / "logits"
        common = ("-f", HERE / "perplexity.txt", "-c", N_CTX, "--chunks", NUM_CHUNKS, "-t", 2)
        plain = perplexity(program, base, *common)
        perplexity(program, base, *common, "--kl-divergence-base", logits)
        compared = perplexity(
            program, model, *common, "--kl-divergence-base", logits, "--kl-divergence"
        )
    value = {
        "n_ctx": N_CTX,
        "chunks": NUM_CHUNKS,
        "Q8_0": figures_of(plain.output),
        "Q4_K_M against Q8_0": figures_of(compared.output),
    }
    out = HERE / "perplexity.json"
    out.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
