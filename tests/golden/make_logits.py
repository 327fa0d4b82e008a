"""Make the goldens of logits with transformers, in float32. Needs the `train` extra.

    python tests/golden/make_logits.py                             # all tiny checkpoints
    python tests/golden/make_logits.py qwen3                       # one of them
    python tests/golden/make_logits.py l4cli/demo/checkpoint       # the demo model

Each .npz holds `tokens` [n], `logits` [n, vocab] and the `fingerprint` of the checkpoint.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import checkpoints  # noqa: E402
import decoders  # noqa: E402

MAX_LOGITS = 300_000  # numbers; 1.2 MB

DEMO_TEXT = (
    "<|begin_of_text|><|header_start|>user<|header_end|>\n\nWhat is the capital of France, and "
    "how far is it from 27 other towns?<|eot|><|header_start|>assistant<|header_end|>\n\nThe "
    "capital is Paris. Let's count:\n\n1. one\n2. two\n\n'Well', said the fox, \"that isn't far\"."
)


def main() -> None:
    asked = sys.argv[1] if len(sys.argv) > 1 else None
    if asked and Path(asked).is_dir():
        save("demo", Path(asked), demo_tokens(Path(asked)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        for kind in ("scout", "maverick", *decoders.KINDS):
            if asked in (None, kind):
                make_tiny(kind, Path(scratch) / kind)


def make_tiny(kind: str, path: Path) -> None:
    """Write the tiny checkpoint of a kind to `path`, and its golden."""
    if kind in decoders.KINDS:
        save(kind, decoders.write_decoder(path, kind), tiny_tokens(40))
    else:
        save(kind, checkpoints.write_checkpoint(path, kind=kind), tiny_tokens())


def tiny_tokens(n: int = 64) -> list[int]:
    drawn = np.random.RandomState(0).randint(0, checkpoints.BOS_ID, n - 1)
    return [checkpoints.BOS_ID, *map(int, drawn)]


def demo_tokens(path: Path) -> list[int]:
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"))
    tokens: list[int] = tokenizer.encode(DEMO_TEXT, add_special_tokens=False)
    return tokens


def save(name: str, path: Path, tokens: list[int]) -> None:
    logits = reference_logits(path, tokens)
    tokens = tokens[: MAX_LOGITS // logits.shape[1]]
    np.savez_compressed(
        HERE / f"logits_{name}.npz",
        tokens=np.asarray(tokens, np.int32),
        logits=logits[: len(tokens)],
        fingerprint=np.asarray(checkpoints.fingerprint(path)),
    )
    print(f"logits_{name}.npz: {len(tokens)} tokens, {logits.shape[1]} logits each")


@torch.no_grad()
def reference_logits(path: Path, tokens: list[int]) -> NDArray[np.float32]:
    options: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "eager"}
    model = AutoModelForCausalLM.from_pretrained(path, **options).eval()
    logits: NDArray[np.float32] = model(torch.tensor([tokens])).logits[0].numpy()
    return logits


if __name__ == "__main__":
    main()
