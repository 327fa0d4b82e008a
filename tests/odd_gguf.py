"""GGUF files by seed whose form is right and whose content is odd.

    model = Model.read(path)
    change(model, random.Random(seed))
    model.write(out)

`gguf_fuzz` damages the bytes of a header. Here a header can be read, and says what no sound file
says: other types, ids beyond the vocabulary, arrays of other lengths, offsets that overlap ...
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convert.gguf.array import GGUFArray
from convert.gguf.file import read_gguf
from convert.gguf.qtypes import QTYPES

_KINDS = {"u16": 2, "u32": 4, "i32": 5, "f32": 6, "bool": 7, "string": 8}
_CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_NAN, _INFINITE = float("nan"), float("inf")
_TEXTS = (
    b"", b"\0", b"a\0b", b"\x1b[31m\x1b]52;c;eA==\x07", b"\xff\xfe", b"\xe2\x80\xae", b"x" * 70_000,
    b"<|eot|>", b" ", b"\n", b"\xc4\xa0", b"%s%n", b"llama", b"gpt2", b"bert", b"no_vocab", b"1",
)  # fmt: skip
_INTEGERS = (0, 1, -1, 2, 3, 5, 7, 255, 4096, 10**6, 2**31 - 1, 2**31, 2**32 - 1)
_FLOATS = (0.0, -1.0, 1e-38, 1e38, 1.0, _NAN, _INFINITE, -_INFINITE)
_TEMPLATES = (
    b"", b"{{", b"{% for", b"{{ 1 / 0 }}", b"{{ missing.thing }}", b"x" * 1_000_000, b"\0", b"\xff",
    b"{% for a in range(1000000000) %}{% endfor %}", b"{{ raise_exception('no') }}",
    b"{{ messages }}",
    b"{% include '/etc/passwd' %}", b"{{ messages[0]['content'] }}", b"{{ ''.__class__.__mro__ }}",
    b"{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", b"{{ 'a' * 10000000000 }}", b"plain",
    b"<!DOCTYPE html><html>", b"{{ bos_token }}{{ messages | tojson }}", b"{{ 1 | odd_filter }}",
)  # fmt: skip
_VOCABULARY = "tokenizer.ggml."
_ARRAYS = ("tokens", "token_type", "scores", "merges")
_IDS = ("bos", "eos", "eot", "eom", "unknown", "padding", "seperator", "mask", "fim_pre", "fim_suf")
_SWITCHES = ("add_bos_token", "add_eos_token", "add_space_prefix", "remove_extra_whitespaces")
_SAMPLING = ("temp", "top_k", "top_p", "min_p", "penalty_repeat", "penalty_last_n", "mirostat")


@dataclass
class Entry:
    """A key with its value: a number, bytes, or for an array the items' type and the items."""

    key: bytes
    type: int
    value: Any

    @classmethod
    def array(cls, key: bytes, type: int, items: list[Any]) -> Entry:
        return cls(key, _ARRAY, (type, items))


@dataclass
class Tensor:
    name: bytes
    shape: list[int]
    type: int
    offset: int


@dataclass
class Model:
    """What a file's header says, and the bytes after it."""

    entries: list[Entry]
    tensors: list[Tensor]
    data: bytes

    @classmethod
    def read(cls, path: Path) -> Model:
        found, entries = read_gguf(path), []
        for key, value in found.fields.items():
            if isinstance(value, GGUFArray):
                items = value.byte_strings() if value.kind == "string" else list(value)
                entries.append(Entry.array(key.encode(), _KINDS[value.kind], items))
            else:
                raw = value.encode() if isinstance(value, str) else value
                entries.append(Entry(key.encode(), _KINDS[found.kinds[key]], raw))
        start = min(tensor.offset for tensor in found.tensors.values())
        tensors = [
            Tensor(name.encode(), list(each.shape), QTYPES[each.qtype].id, each.offset - start)
            for name, each in found.tensors.items()
        ]
        return cls(entries, tensors, path.read_bytes()[start:])

    def copy(self) -> Model:
        """A copy that can be changed: `change` puts new values in place of old ones."""
        tensors = [replace(tensor, shape=list(tensor.shape)) for tensor in self.tensors]
        return Model([replace(entry) for entry in self.entries], tensors, self.data)

    def write(self, path: Path, alignment: int = 32) -> Path:
        parts = [b"GGUF", struct.pack("<IQQ", 3, len(self.tensors), len(self.entries))]
        for entry in self.entries:
            parts += (_text(entry.key), struct.pack("<I", entry.type))
            parts.append(_value(entry.type, entry.value))
        for each in self.tensors:
            n_dims = len(each.shape)
            numbers = struct.pack(f"<I{n_dims}Q", n_dims, *each.shape)
            parts += (_text(each.name), numbers, struct.pack("<IQ", each.type, each.offset))
        header = b"".join(parts)
        path.write_bytes(header + b"\0" * (-len(header) % alignment) + self.data)
        return path

    def find(self, key: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.key == key.encode()), None)

    def set(self, key: str, type: int, value: Any) -> None:
        entry = self.find(key)
        if entry is None:
            self.entries.append(Entry(key.encode(), type, value))
        else:
            entry.type, entry.value = type, value

    @property
    def architecture(self) -> str:
        entry = self.find("general.architecture")
        is_text = entry is not None and isinstance(entry.value, bytes)
        return entry.value.decode("utf-8", "replace") if entry and is_text else "llama"


def _text(raw: bytes) -> bytes:
    return struct.pack("<Q", len(raw)) + raw


def _value(type: int, value: Any) -> bytes:
    if type == _STRING:
        return _text(value)
    if type != _ARRAY:
        return struct.pack(f"<{_CODES[type]}", _fitting(type, value))
    of, items = value
    start = struct.pack("<IQ", of, len(items))
    if of in (_STRING, _ARRAY):
        return start + b"".join(_value(of, item) for item in items)
    return start + struct.pack(
        f"<{len(items)}{_CODES[of]}", *(_fitting(of, item) for item in items)
    )


def _fitting(type: int, value: Any) -> Any:
    """The number as this type can hold it."""
    if type in (6, 12):
        return float(value) if abs(value) < 1e38 or value != value else value
    if type == 7:
        return bool(value)
    if value != value or abs(value) == _INFINITE:
        return 0
    size = 8 * struct.calcsize(f"<{_CODES[type]}")
    number = int(value) % (1 << size)
    return number - (1 << size) if _CODES[type].islower() and number >> (size - 1) else number


def change(model: Model, chance: random.Random) -> None:
    """Make one or two things in the model odd."""
    for _ in range(chance.choice((1, 1, 2))):
        chance.choice(_CHANGES)(model, chance)


def _other_type(model: Model, chance: random.Random) -> None:
    """A value of another type: a scalar for an array, an array in an array ..."""
    entry = chance.choice(model.entries)
    nested: Any = (_ARRAY, [(4, [1]), (4, [2])])
    choices: list[tuple[int, Any]] = [
        (_STRING, chance.choice(_TEXTS)), (4, chance.choice(_INTEGERS)), (5, -1), (7, True),
        (6, chance.choice(_FLOATS)), (10, 2**64 - 1), (11, -(2**63)), (12, _NAN), (0, 255),
        (_ARRAY, (_STRING, [b"a"])), (_ARRAY, (4, [])), (_ARRAY, (6, [_NAN] * 3)), (_ARRAY, nested),
        (_ARRAY, (_ARRAY, [])), (_ARRAY, (7, [True])), (_ARRAY, (10, [2**63] * 2)),
    ]  # fmt: skip
    entry.type, entry.value = chance.choice(choices)


def _other_key(model: Model, chance: random.Random) -> None:
    """A key that is odd, absent, or there twice."""
    entry = chance.choice(model.entries)
    how = chance.random()
    if how < 0.3:
        model.entries.remove(entry)
    elif how < 0.6:
        entry.key = chance.choice((*_TEXTS, entry.key + b"\0", entry.key.upper()))
    else:
        model.entries.append(Entry(entry.key, 4, chance.choice(_INTEGERS)))


def _special_id(model: Model, chance: random.Random) -> None:
    key = f"{_VOCABULARY}{chance.choice(_IDS)}_token_id"
    tokens = model.find(f"{_VOCABULARY}tokens")
    n_tokens = len(tokens.value[1]) if tokens and tokens.type == _ARRAY else 0
    id_ = chance.choice((n_tokens, n_tokens + 1, n_tokens - 1, *_INTEGERS))
    model.set(key, chance.choice((4, 4, 4, 5, 10, 11)), id_)
    if chance.random() < 0.5:
        model.set(f"{_VOCABULARY}{chance.choice(_SWITCHES)}", 7, chance.random() < 0.7)


def _vocabulary(model: Model, chance: random.Random) -> None:
    """Tokens, types, scores or merges that do not belong together, or are odd."""
    entry = model.find(_VOCABULARY + chance.choice(_ARRAYS))
    if entry is None or entry.type != _ARRAY:
        return
    type_, items = entry.value
    items = list(items)
    if not items:
        return
    at = chance.randrange(len(items))
    how = chance.choice(("cut", "longer", "empty", "item", "item", "item", "all", "order"))
    odd: tuple[Any, ...] = {_STRING: _TEXTS, 6: _FLOATS}.get(type_, _INTEGERS)
    if type_ == _STRING and b" " in items[0]:
        odd = (*odd, b"a", b"a  b", b" ", b"a b c", b"zz zz", items[at] + b"x", items[0])
    if how == "cut":
        items = items[:at]
    elif how == "longer":
        items += items[: chance.choice((1, at + 1))]
    elif how == "empty":
        items = []
    elif how == "item":
        items[at] = chance.choice((*odd, items[0]))
    elif how == "all":
        items = [chance.choice(odd)] * len(items)
    else:
        items.reverse()
    entry.value = (type_, items)


def _template(model: Model, chance: random.Random) -> None:
    kind = chance.random()
    key = "tokenizer.chat_template"
    if kind < 0.8:
        model.set(key, _STRING, chance.choice(_TEMPLATES))
    elif kind < 0.9:
        key += chance.choice((".a", ".tool_use", "."))
        model.set(key, _STRING, chance.choice(_TEMPLATES))
    else:
        model.set(key, _ARRAY, (_STRING, list(_TEMPLATES[:3])))


def _hparams(model: Model, chance: random.Random) -> None:
    """Numbers of the architecture: small, large, or a list for another number of layers."""
    start = f"{model.architecture}.".encode()
    own = [entry for entry in model.entries if entry.key.startswith(start)]
    more = (
        "attention.key_length", "attention.value_length", "attention.head_count", "context_length",
        "attention.head_count_kv", "rope.dimension_count", "rope.freq_base", "rope.scaling.factor",
        "attention.sliding_window", "expert_count", "expert_used_count", "feed_forward_length",
        "rope.scaling.original_context_length", "attention.layer_norm_rms_epsilon", "pooling_type",
        "attention.causal", "expert_weights_scale", "leading_dense_block_count", "vocab_size",
        "interleave_moe_layer_step", "attention.scale", "expert_gating_func",
        "nextn_predict_layers",
    )  # fmt: skip
    keys = [entry.key.decode("utf-8", "replace") for entry in own]
    key = chance.choice((*keys, *(start.decode("utf-8", "replace") + name for name in more)))
    entry = model.find(key)
    type_ = entry.type if entry and entry.type in _CODES else chance.choice((4, 6))
    how = chance.random()
    values = _FLOATS if type_ in (6, 12) else _INTEGERS
    if how < 0.7:
        model.set(key, type_, chance.choice(values))
    else:
        n_items = chance.choice((0, 1, 2, 3, 4, 5, 100, 600))
        model.set(key, _ARRAY, (type_, [chance.choice(values) for _ in range(n_items)]))


def _tensor(model: Model, chance: random.Random) -> None:
    tensor = chance.choice(model.tensors)
    other = chance.choice(model.tensors)
    how = chance.choice(("type", "offset", "shape", "name", "gone", "twice"))
    if how == "type":
        types = (4, 5, 9, 24, 26, 27, 28, 31, 36, 39, 40, 99, 2**32 - 1, 0, 1, 8)
        tensor.type = chance.choice(types)
    elif how == "offset":
        odd = (other.offset, 1, tensor.offset + 1, 2**40, 2**63, 2**64 - 32, len(model.data))
        tensor.offset = chance.choice(odd)
    elif how == "shape":
        shapes = (
            [], [0], tensor.shape[::-1], [*tensor.shape, 1, 1], [*tensor.shape, 2], [2**62, 4],
            [1] * 5, [2**63], [tensor.shape[0] // 2, *tensor.shape[1:]], other.shape, [2**32] * 2,
        )  # fmt: skip
        tensor.shape = list(chance.choice(shapes))
    elif how == "name":
        tensor.name = chance.choice((*_TEXTS, other.name, b"x" * 64, b"blk.-1.attn_q.weight"))
    elif how == "gone":
        model.tensors.remove(tensor)
    else:
        model.tensors.append(Tensor(tensor.name, other.shape, other.type, other.offset))


def _alignment(model: Model, chance: random.Random) -> None:
    alignments = (0, 1, 3, 16, 24, 64, 4096, 2**31, 2**32 - 1)
    model.set("general.alignment", chance.choice((4, 4, 4, 5, 10, 6)), chance.choice(alignments))


def _split(model: Model, chance: random.Random) -> None:
    for key in chance.sample(("split.no", "split.count", "split.tensors.count"), 2):
        model.set(key, chance.choice((2, 2, 4, 5)), chance.choice((0, 1, 2, 3, 65535, -1)))


def _general(model: Model, chance: random.Random) -> None:
    """What the file is, and how its authors would sample from it."""
    if chance.random() < 0.5:
        sampling = f"general.sampling.{chance.choice(_SAMPLING)}"
        type_ = chance.choice((6, 6, 4, 5, 12, _STRING))
        odd: tuple[Any, ...] = _TEXTS if type_ == _STRING else (*_FLOATS, *_INTEGERS)
        model.set(sampling, type_, chance.choice(odd))
        return
    names = ("architecture", "type", "name", "size_label", "basename", "license")
    model.set(f"general.{chance.choice(names)}", _STRING, chance.choice(_TEXTS))
    if chance.random() < 0.3:
        numbers = ("file_type", "quantization_version")
        model.set(f"general.{chance.choice(numbers)}", 4, chance.choice(_INTEGERS))


_CHANGES: tuple[Callable[[Model, random.Random], None], ...] = (
    _other_type, _other_key, _special_id, _special_id, _vocabulary, _vocabulary, _template,
    _hparams, _hparams, _hparams, _tensor, _tensor, _alignment, _split, _general,
)  # fmt: skip
