"""Writes tiny checkpoints of BERT, with numpy alone, and their WordPiece tokenizers.

    write_encoder(tmp_path / "model", pooling="cls")

`checkpoints` says how the weights are made.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checkpoints import noise, write_shards

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
UNKNOWN_ID, CLS_ID, SEP_ID = 1, 2, 3
_WORDS = ("the", "cat", "dog", "sat", "hello", "world", "cafe", "naive", "in", "un", "believ")
_ENDINGS = ("##s", "##ing", "##able", "##ed", "##ly", "##\u093f")
_LETTERS = string.ascii_lowercase + string.digits + "\u4eac\u5317\u0928\u0926\u0939\u1100\u1161é"
VOCABULARY = (
    *SPECIAL,
    *string.punctuation,
    *_LETTERS,
    *(f"##{letter}" for letter in _LETTERS),
    *_WORDS,
    *_ENDINGS,
    *("Hello", "É"),  # only a tokenizer that keeps upper case finds them
)
VOCAB_SIZE = len(VOCABULARY) + 3  # the last ids are unused

CONFIG: dict[str, Any] = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "vocab_size": VOCAB_SIZE,
    "type_vocab_size": 2,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 64,
    "position_embedding_type": "absolute",
    "pad_token_id": 0,
    "torch_dtype": "float32",
}


def write_encoder(
    path: Path,
    *,
    pooling: str | None = "mean",
    dtype: str = "F32",
    lowercase: bool = True,
    **overrides: Any,
) -> Path:
    """Write a checkpoint of BERT into the directory `path` and return `path`.

    pooling: "mean", "cls" or "lasttoken"; None: no file states it.
    overrides: values of config.json.
    """
    path.mkdir(parents=True, exist_ok=True)
    config = {**CONFIG, **overrides}
    weights = {name: noise(shape, scale, 0, name) for name, shape, scale in encoder_shapes(config)}
    write_shards(path, weights, dtype=dtype, shards=1)
    _write(path / "config.json", config)
    write_wordpiece(path, lowercase=lowercase)
    if pooling is not None:
        write_pooling(path, pooling)
    return path


def encoder_shapes(config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...], float]]:
    """Yield name, shape (C order) and scale of every tensor; a norm's weight has scale 0."""
    hidden, width = config["hidden_size"], config["intermediate_size"]
    for name, rows in (
        ("word", config["vocab_size"]),
        ("position", config["max_position_embeddings"]),
        ("token_type", config["type_vocab_size"]),
    ):
        yield f"embeddings.{name}_embeddings.weight", (rows, hidden), 1.0
    yield from _norm("embeddings.LayerNorm", hidden)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"encoder.layer.{layer}."
        for name, n_rows, n_cols in (
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", width, hidden),
            ("output.dense", hidden, width),
        ):
            yield f"{prefix}{name}.weight", (n_rows, n_cols), 2 * n_cols**-0.5
            yield f"{prefix}{name}.bias", (n_rows,), 0.5
        yield from _norm(f"{prefix}attention.output.LayerNorm", hidden)
        yield from _norm(f"{prefix}output.LayerNorm", hidden)
    yield "pooler.dense.weight", (hidden, hidden), hidden**-0.5
    yield "pooler.dense.bias", (hidden,), 0.5


def _norm(name: str, hidden: int) -> Iterator[tuple[str, tuple[int, ...], float]]:
    yield f"{name}.weight", (hidden,), 0.0
    yield f"{name}.bias", (hidden,), 0.5


def write_pooling(path: Path, pooling: str, *further: str) -> None:
    """Write the files in which sentence-transformers states the pooling.

    further: the classes of steps behind it.
    """
    names = ("Transformer", "Pooling", *further)
    modules = [
        {"idx": index, "name": str(index), "path": f"{index}_{name}" if index else "", "type": name}
        for index, name in enumerate(f"sentence_transformers.models.{each}" for each in names)
    ]
    modules[1]["path"] = "1_Pooling"
    _write(path / "modules.json", modules)
    (path / "1_Pooling").mkdir(exist_ok=True)
    flags = {"mean": "mean_tokens", "cls": "cls_token", "lasttoken": "lasttoken"}
    modes = {f"pooling_mode_{flag}": name == pooling for name, flag in flags.items()}
    _write(path / "1_Pooling" / "config.json", {"word_embedding_dimension": 128, **modes})


def write_wordpiece(path: Path, *, lowercase: bool = True) -> None:
    """Write tokenizer.json and tokenizer_config.json into the directory `path`."""
    cls, sep = ({"SpecialToken": {"id": text, "type_id": 0}} for text in ("[CLS]", "[SEP]"))
    first, second = ({"Sequence": {"id": id_, "type_id": i}} for i, id_ in enumerate("AB"))
    tokenizer = {
        "version": "1.0",
        "added_tokens": [
            {
                "id": id_,
                "content": text,
                "special": True,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
            }
            for id_, text in enumerate(SPECIAL)
        ],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [cls, first, sep],
            "pair": [cls, first, sep, second, sep],
            "special_tokens": {
                text: {"id": text, "ids": [SPECIAL.index(text)], "tokens": [text]}
                for text in ("[CLS]", "[SEP]")
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {text: id_ for id_, text in enumerate(VOCABULARY)},
        },
    }
    settings = {
        "do_lower_case": lowercase,
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
        "tokenizer_class": "BertTokenizer",
    }
    _write(path / "tokenizer.json", tokenizer)
    _write(path / "tokenizer_config.json", settings)


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
