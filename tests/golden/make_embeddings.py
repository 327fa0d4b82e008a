"""Make the goldens of embeddings with transformers, in float32. Needs the `train` extra.

    python tests/golden/make_embeddings.py

embeddings.json holds the token ids of texts, by Hugging Face's own WordPiece. embeddings.npz holds
the embeddings of these tokens by transformers' own BERT, pooled by mean and by cls, of length 1,
and the `fingerprint` of the checkpoint.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoModel

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import checkpoints  # noqa: E402
import encoders  # noqa: E402

TEXTS = (
    "hello world",
    "Hello, WORLD! The cats sat in the cafés.",
    "unbelievably naïve",
    "É é e\u0301 \u00c5",
    "北京a北 京",
    "हिन नद",  # vowel signs are no accents
    "가 각",  # syllables are taken apart
    "a\u0000b\u0007c\u200bd\ufffde",
    "a\tb\nc\rd\u00a0e\u3000f\u000bg\u000ch\u0085i",
    "🦙 llama",
    "x" * 100,
    "x" * 101,
    "don't-stop.me(now)",
    "$1,000.50 = £2",
    "[CLS] the [SEP] [unused1]",
    "İstanbul ΣΑΣ ǅ",
    "the▁cat",
    "",
    "   ",
)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        tokens = {}
        for name, lowercase in (("uncased", True), ("cased", False)):
            path = encoders.write_encoder(Path(scratch) / name, lowercase=lowercase)
            tokens[name] = encode(path)
        inputs = [ids for ids in tokens["uncased"].values() if len(ids) <= 64]
        pooled = embed(Path(scratch) / "uncased", inputs)
        (HERE / "embeddings.json").write_text(json.dumps(tokens, indent=1) + "\n")
        np.savez_compressed(
            HERE / "embeddings.npz",
            **pooled,
            fingerprint=np.asarray(checkpoints.fingerprint(Path(scratch) / "uncased")),
        )


def encode(path: Path) -> dict[str, list[int]]:
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    # A text must not become a control token; Hugging Face's tokenizers look for them in texts.
    tokenizer.encode_special_tokens = True
    return {text: tokenizer.encode(text).ids for text in TEXTS}


@torch.no_grad()
def embed(path: Path, inputs: list[list[int]]) -> dict[str, np.ndarray]:
    model = AutoModel.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()
    hidden = [model(torch.tensor([ids])).last_hidden_state[0] for ids in inputs]
    pooled = {
        "mean": torch.stack([each.mean(0) for each in hidden]),
        "cls": torch.stack([each[0] for each in hidden]),
    }
    return {name: torch.nn.functional.normalize(each).numpy() for name, each in pooled.items()}


if __name__ == "__main__":
    main()
