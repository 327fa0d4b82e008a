"""The demo model's tokenizer: byte-level BPE with Llama 4's split pattern and special tokens.

Llama 4's 200k tokens would be most of so small a model, so this one has 4096.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

VOCAB_SIZE = 4096
SPLIT = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BOS, EOT, EOM, END = "<|begin_of_text|>", "<|eot|>", "<|eom|>", "<|end_of_text|>"
HEADER_START, HEADER_END = "<|header_start|>", "<|header_end|>"
PAD = "<|finetune_right_pad|>"
SPECIAL = [
    BOS, END, "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", HEADER_START, HEADER_END, EOM,
    EOT, "<|step|>", "<|python_start|>", "<|python_end|>", PAD, "<|image_start|>", "<|image_end|>",
    "<|image|>", "<|patch|>", "<|tile_x_separator|>", "<|tile_y_separator|>",
]  # fmt: skip


def train(texts: Iterable[str]) -> Tokenizer:
    """Train a tokenizer of VOCAB_SIZE tokens, the special ones included."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=12,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_short_pieces(texts), trainer)
    tokenizer.add_special_tokens(SPECIAL)
    bos = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS}:1 $B:1", special_tokens=[(BOS, bos)]
    )
    return tokenizer


def _short_pieces(texts: Iterable[str]) -> Iterator[str]:
    """Break numbers and Chinese after two characters. Longer tokens would occur too rarely."""
    for text in texts:
        text = re.sub(r"(\d\d)(?=\d)", "\\1\0", text)
        yield from re.sub(r"([\u4e00-\u9fff]{2})", "\\1\0", text).split("\0")


def without_special(tokenizer: Tokenizer) -> Tokenizer:
    """Return the tokenizer for messages and documents, to which `<|eot|>` is plain text."""
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = []
    content["post_processor"] = None
    return Tokenizer.from_str(json.dumps(content))


def load(path: Path) -> Tokenizer:
    return Tokenizer.from_file(str(path))
