"""Finds what would make llama.cpp end the process while it loads a GGUF.

llama.cpp reports most problems of a file in a line. But some fail a GGML_ASSERT, or raise an
exception that nothing catches, and that ends the process. They are checked here first. Sources:
``load_hparams`` in ``src/llama-model.cpp``, ``llama_vocab::impl::load`` in ``src/llama-vocab.cpp``,
the split files in ``src/llama-model-loader.cpp``, the checks of operations in ``ggml/src/ggml.c``.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.errors import ConvertError
from convert.gguf.array import GGUFArray
from convert.gguf.fields import ALIGNMENT
from convert.gguf.kind import is_encoder, refuse_other_purposes
from convert.gguf.model import GGUFModel, read_model

_MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
_MAX_EXPERTS = 1024  # LLAMA_MAX_EXPERTS
_ROPE_SCALINGS = ("none", "linear", "yarn", "longrope")
_NO_VOCABULARY = ("none", "no_vocab")
_MERGING = ("gpt2", "gemma4")
_WINDOW = "attention.sliding_window"
_BYTE = 6  # LLAMA_TOKEN_TYPE_BYTE
# Architectures whose graphs assert that RoPE rotates whole heads, and that keys and values have the
# same width.
_WHOLE_HEADS = ("llama", "llama4", "mistral3", "qwen2", "qwen3", "qwen3moe")


def vet(path: Path, *, embedders: bool = False) -> GGUFModel:
    """Read the GGUF `path` and its other split files.

    embedders: see `vet_loading`. Raises ConvertError if loading it would end the process.
    """
    model = read_model(path)
    vet_loading(path, model, embedders=embedders)
    return model


def vet_loading(path: Path, model: GGUFModel, *, embedders: bool = False) -> None:
    """Raise ConvertError if loading `model`, read from `path`, would end the process.

    Also if it is no language model: some of the others end it at the first token.

    embedders: let models pass that make embeddings, too.
    """
    refuse_other_purposes(path, model.fields, model.tensors, embedders=embedders)
    _vet_vocabulary(path, model)
    _vet_hparams(path, model)
    _vet_tensors(path, model)


def _vet_vocabulary(path: Path, model: GGUFModel) -> None:
    """Raise ConvertError unless the vocabulary is one that llama.cpp can encode text with."""
    vocab = {
        key.removeprefix("tokenizer.ggml."): value
        for key, value in model.fields.items()
        if key.startswith("tokenizer.ggml.")
    }
    kind = vocab.get("model")
    if kind is None or kind in _NO_VOCABULARY:
        raise ConvertError(f"{path}: has no vocabulary, so it cannot encode any text")
    tokens = _array(path, vocab, "tokens", ("string",))
    if tokens is None or not len(tokens):
        raise ConvertError(f"{path}: tokenizer.ggml.tokens is missing or empty; convert it again")
    types = _array(path, vocab, "token_type", ("i32",))
    scores = _array(path, vocab, "scores", ("f32", "i32"))
    for key, values in (("token_type", types), ("scores", scores)):
        if values is not None and len(values) != len(tokens):
            raise ConvertError(
                f"{path}: tokenizer.ggml.{key} has {len(values):,} items for {len(tokens):,} "
                "tokens; convert it again"
            )
    if _array(path, vocab, "merges", ("string",)) is None and kind in _MERGING:
        raise ConvertError(f"{path}: tokenizer.ggml.merges is missing; convert it again")
    _refuse_replaced_ids(path, vocab, len(tokens), model.fields.get("tokenizer.chat_template"))
    texts = tokens.byte_strings()
    _refuse_twins(path, texts)
    if kind == "llama":
        _refuse_missing_bytes(path, texts)
    elif kind == "bert" and types is not None and _BYTE in types:
        raise ConvertError(f"{path}: has byte tokens, which a bert vocabulary cannot have")


def _array(
    path: Path, vocab: Mapping[str, Any], key: str, kinds: tuple[str, ...]
) -> GGUFArray | None:
    """The array field tokenizer.ggml.`key`; None if absent.

    Raises ConvertError if it is not an array with items of one of the `kinds`.
    """
    values = vocab.get(key)
    if values is None:
        return None
    if not isinstance(values, GGUFArray) or values.kind not in kinds:
        stands = f"an array of {values.kind}" if isinstance(values, GGUFArray) else "no array"
        raise ConvertError(f"{path}: tokenizer.ggml.{key} is {stands}, not of {kinds[0]}")
    return values


def _refuse_replaced_ids(
    path: Path, vocab: Mapping[str, Any], n_tokens: int, template: Any
) -> None:
    """Raise ConvertError if llama.cpp would put another token in the place of a special one.

    In place of an id beyond the vocabulary it takes the one of the first Llama or of GPT-2, which
    is an ordinary letter elsewhere: every answer would begin with it, or end at it.
    """
    writes_bos = isinstance(template, str) and "bos_token" in template
    kinds = ["eos"]
    if writes_bos or vocab.get("add_bos_token") is not False:
        kinds.append("bos")
    for kind in kinds:
        id_ = vocab.get(f"{kind}_token_id", 0)
        if type(id_) is int and not 0 <= id_ < n_tokens:
            raise ConvertError(
                f"{path}: tokenizer.ggml.{kind}_token_id is {id_}, but there are only {n_tokens:,} "
                "tokens; llama.cpp would take another one in its place: convert it again"
            )


def _refuse_twins(path: Path, texts: list[bytes]) -> None:
    """Raise ConvertError if two tokens have the same text.

    For llama.cpp a text ends at a NUL, and an empty one is replaced by [EMPTY_id].
    """
    if b"\0" in b"".join(texts):
        texts = [text.partition(b"\0")[0] for text in texts]
    if len(set(texts)) == len(texts) and b"" not in texts:
        return
    seen: dict[bytes, int] = {}
    for id_, text in enumerate(texts):
        name = text or b"[EMPTY_%d]" % id_
        if (first := seen.setdefault(name, id_)) != id_:
            shown = name.decode("utf-8", errors="replace")
            raise ConvertError(
                f"{path}: the tokens {first} and {id_} are both {reprlib.repr(shown)}; "
                "convert it again"
            )


def _refuse_missing_bytes(path: Path, texts: list[bytes]) -> None:
    """Raise ConvertError if a SentencePiece vocabulary lacks a byte token.

    It encodes text that no token matches as bytes.
    """
    known = set(texts)
    for byte in range(256):
        if b"<0x%02X>" % byte not in known and bytes((byte,)) not in known:
            raise ConvertError(
                f"{path}: has no token <0x{byte:02X}>, which is needed to encode text that no "
                "other token matches; convert it again"
            )


class _Hparams:
    """The numbers of an architecture, by key without the architecture's name."""

    def __init__(self, path: Path, model: GGUFModel) -> None:
        self.path = path
        self.architecture = model.fields.get("general.architecture")
        if not isinstance(self.architecture, str):
            raise ConvertError(f"{path}: does not state its general.architecture")
        self._model = model

    def value(self, key: str) -> Any:
        return self._model.fields.get(f"{self.architecture}.{key}")

    def count(self, key: str, default: int = 0) -> int:
        """A count; the largest if there is one per layer. Raises ConvertError if it is not one."""
        value = self.value(key)
        if value is None:
            return default
        values = list(value) if isinstance(value, GGUFArray) else [value]
        if not values or any(type(n) is not int or not 0 <= n < 1 << 32 for n in values):
            raise self.error(key, "which is not a count")
        return int(max(values))

    def error(self, key: str, why: str) -> ConvertError:
        value = self.value(key)
        what = "is missing" if value is None else f"is {reprlib.repr(value)}, {why}"
        return ConvertError(
            f"{self.path}: {self.architecture}.{key} {what}; the file is damaged, or was not made "
            "for llama.cpp"
        )


def _vet_hparams(path: Path, model: GGUFModel) -> None:
    hparams = _Hparams(path, model)
    n_layers = hparams.count("block_count")
    if not 1 <= n_layers <= _MAX_LAYERS:
        raise hparams.error("block_count", f"not 1 to {_MAX_LAYERS} layers")
    if hparams.architecture == "llama4" and n_layers < 4 and hparams.value(_WINDOW) != 0:
        raise hparams.error("block_count", "too few for a layer of global attention")
    width = hparams.count("embedding_length")
    embeddings = model.tensors.get("token_embd.weight")
    if embeddings is not None and embeddings.shape[0] != width:
        raise hparams.error(
            "embedding_length", f"but token_embd.weight is {embeddings.shape[0]} wide"
        )
    if hparams.count("nextn_predict_layers") > n_layers:
        raise hparams.error("nextn_predict_layers", f"more than its {n_layers} layers")
    _vet_experts(hparams)
    _vet_heads(hparams)
    scaling = hparams.value("rope.scaling.type")
    if isinstance(scaling, str) and scaling not in _ROPE_SCALINGS:
        raise hparams.error("rope.scaling.type", f"not one of {', '.join(_ROPE_SCALINGS)}")
    for key in ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"):
        epsilon = hparams.value(key)
        if isinstance(epsilon, float) and not 0 <= epsilon < math.inf:
            raise hparams.error(key, "not a finite number from 0 up")


def _vet_experts(hparams: _Hparams) -> None:
    n_experts, n_used = hparams.count("expert_count"), hparams.count("expert_used_count")
    if n_experts > _MAX_EXPERTS:
        raise hparams.error("expert_count", f"more than the {_MAX_EXPERTS} that llama.cpp allows")
    is_hunyuan = str(hparams.architecture).startswith("hunyuan")  # it may have "one expert"
    if not is_hunyuan and (n_used > n_experts or bool(n_used) != bool(n_experts)):
        raise hparams.error("expert_used_count", f"of {n_experts} experts")
    n_groups = hparams.count("expert_group_count")
    if not n_groups:
        return
    n_groups_used = hparams.count("expert_group_used_count")
    is_even = n_experts % n_groups == 0 and 0 < n_groups_used < n_groups < n_experts
    if not is_even and (n_groups > 1 or n_groups >= max(n_experts, 1)):
        raise hparams.error(
            "expert_group_count", f"with {n_groups_used} used and {n_experts} experts"
        )


def _vet_heads(hparams: _Hparams) -> None:
    n_heads = hparams.count("attention.head_count")
    is_uniform = not isinstance(hparams.value("attention.head_count"), GGUFArray)
    if is_encoder(hparams.architecture):
        _vet_encoder_heads(hparams, n_heads)
    if hparams.architecture not in _WHOLE_HEADS or not n_heads or not is_uniform:
        return
    n_kv_heads = hparams.count("attention.head_count_kv", n_heads)
    if n_kv_heads and n_heads % n_kv_heads:
        raise hparams.error("attention.head_count_kv", f"which does not divide {n_heads} heads")
    width = hparams.count("embedding_length") // n_heads
    key_length = hparams.count("attention.key_length", width)
    if hparams.count("rope.dimension_count", key_length) != key_length or key_length % 2:
        raise hparams.error("rope.dimension_count", f"but its heads are {key_length} wide")
    if hparams.count("attention.value_length", width) != key_length:
        raise hparams.error("attention.value_length", f"but its keys are {key_length} wide")


def _vet_encoder_heads(hparams: _Hparams, n_heads: int) -> None:
    """Raise ConvertError where an encoder's graph would divide by 0 or fail an assertion."""
    n_embd = hparams.count("embedding_length")
    if not n_heads or (hparams.value("attention.key_length") is None and n_embd % n_heads):
        raise hparams.error("attention.head_count", f"which does not divide {n_embd}")
    width = n_embd // n_heads
    key_length = hparams.count("attention.key_length", width)
    if hparams.count("attention.value_length", width) != key_length:
        raise hparams.error("attention.value_length", f"but its keys are {key_length} wide")


def _vet_tensors(path: Path, model: GGUFModel) -> None:
    """Raise ConvertError if ggml would reject the tensors' types or places with an assertion."""
    firsts: dict[Path, int] = {}
    for tensor in model.tensors.values():
        firsts[tensor.path] = min(tensor.offset, firsts.get(tensor.path, tensor.offset))
    for file, first in firsts.items():
        if first % ALIGNMENT:
            raise ConvertError(
                f"{file}: its weights begin at byte {first:,}, not at a multiple of {ALIGNMENT}, "
                "as llama.cpp requires; convert it again"
            )
    for name, tensor in model.tensors.items():  # operations with vectors accept no other type
        if len(tensor.shape) == 1 and name.endswith((".weight", ".bias")) and tensor.qtype != "F32":
            raise ConvertError(f"{path}: {name} is {tensor.qtype}, but vectors must be F32")
