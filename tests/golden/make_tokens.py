"""Make tokens.json with Hugging Face's tokenizers. Needs the `train` extra.

    python tests/golden/make_tokens.py

It holds the token ids of each text, for every kind of tiny tokenizer.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import tiny_tokenizer  # noqa: E402

TEXTS = (
    "hello world",
    " the hello  llama and\n\n\nthe world's THE'LL 1234567 x=12",
    "Hellohello_is  the\ttion \r\n end",
    "É中文 🦙 naïve",
    "",
    "    deeply indented",
    "and.../and//\n is",
)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch)
        tokens = {}
        for pre in tiny_tokenizer.BYTE_LEVEL:
            tiny_tokenizer.write_tokenizer(path, pre)
            tokens[pre] = encode(path)
        tiny_tokenizer.write_sentencepiece(path)
        tokens["sentencepiece"] = encode(path)
    (HERE / "tokens.json").write_text(json.dumps(tokens, indent=1) + "\n")


def encode(path: Path) -> dict[str, list[int]]:
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    return {text: tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS}


if __name__ == "__main__":
    main()
