"""Says what a GGUF is if it is not a language model that continues a text.

Some of the others make embeddings, which `l4 serve --embed` serves.

Such files share the format, and often the name of the model they belong to. Sources in llama.cpp:
``create_memory`` and ``llama_model_has_encoder`` in ``src/llama-model.cpp`` for architectures,
``tools/imatrix``, ``tools/cvector-generator`` and ``src/llama-adapter.cpp`` for other files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from convert.errors import ConvertError

_NO_USE = "l4 has no use for it yet"
_GIVE_MODEL = "give the .gguf of the language model itself"
_EMBEDDINGS = (
    "it turns a text into numbers to compare it with others, and writes no text; serve it with "
    "`l4 serve --embed FILE`"
)

_ENCODERS = (
    "bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2",
    "jina-bert-v3", "eurobert", "gemma-embedding", "llama-embed",
)  # fmt: skip
_DIFFUSION = ("dream", "llada", "llada-moe", "rnd1")
_DRAFTS = ("eagle3", "dflash", "gemma4-assistant")
_SPEECH = ("wavtokenizer-dec", "qwen3tts", "pockettts")
_POOLING_RANK = 4  # LLAMA_POOLING_TYPE_RANK


def other_purpose(fields: Mapping[str, Any], tensors: Collection[str]) -> str | None:
    """What the GGUF is and where it goes, to follow "it is"; None if it is a language model.

    tensors: the names of its tensors.
    """
    return no_model(fields, tensors) or _embedding_model(fields)


def no_model(fields: Mapping[str, Any], tensors: Collection[str]) -> str | None:
    """The same, but None also if it is a model that makes embeddings."""
    return _file_beside_a_model(fields, tensors) or _model_of_another_kind(fields)


def refuse_other_purposes(
    path: Path,
    fields: Mapping[str, Any],
    tensors: Collection[str],
    *,
    embedders: bool = False,
) -> None:
    """Raise ConvertError, which says what the GGUF is, if it is not a language model.

    embedders: let models pass that make embeddings, too.
    """
    find = no_model if embedders else other_purpose
    if (purpose := find(fields, tensors)) is not None:
        raise ConvertError(f"{path}: is {purpose}")


def is_encoder(architecture: object) -> bool:
    """Whether llama.cpp runs the architecture as an encoder, which has no KV cache."""
    return architecture in _ENCODERS


def _file_beside_a_model(fields: Mapping[str, Any], tensors: Collection[str]) -> str | None:
    type_, architecture = fields.get("general.type"), fields.get("general.architecture")
    if type_ == "mmproj" or architecture == "clip" or _stated(fields, "clip"):
        senses = [
            sense
            for key, sense in (("vision", "images"), ("audio", "sound"))
            if fields.get(f"clip.has_{key}_encoder") is True
        ]
        of = " and ".join(senses) or "images or sound"
        return (
            f"a projector for {of} (mmproj), which goes beside a language model; l4 reads text "
            f"only and has no use for it yet: {_GIVE_MODEL}"
        )
    if type_ == "imatrix" or _stated(fields, "imatrix"):
        return (
            "an importance matrix (imatrix), not a model: it goes to `l4 convert --imatrix FILE` "
            f"or `l4 quantize --imatrix FILE`; for the model, {_GIVE_MODEL}"
        )
    if architecture == "controlvector" or _stated(fields, "controlvector"):
        return f"a control vector, which changes how a model writes; {_NO_USE}: {_GIVE_MODEL}"
    is_lora = "token_embd.weight" not in tensors and any(
        name.endswith((".lora_a", ".lora_b")) for name in tensors
    )
    if type_ == "adapter" or _stated(fields, "adapter") or is_lora:
        return (
            "an adapter (LoRA), which changes the weights of the model it was trained for; "
            f"{_NO_USE}: {_GIVE_MODEL}, with the adapter merged into it"
        )
    if type_ == "vocab" or (not tensors and fields.get("tokenizer.ggml.model")):
        return f"a vocabulary without weights, for tests of tokenizers: {_GIVE_MODEL}"
    return None


def _stated(fields: Mapping[str, Any], section: str) -> bool:
    return any(key.startswith(f"{section}.") for key in fields)


def _model_of_another_kind(fields: Mapping[str, Any]) -> str | None:
    architecture = fields.get("general.architecture")
    if architecture == "t5encoder":
        return (
            "an encoder (t5encoder): it turns a text into numbers for each of its tokens, and "
            f"writes no text; {_NO_USE}"
        )
    if architecture == "t5":
        return (
            "an encoder with a decoder (t5), as for translations: it answers a text that was "
            f"encoded before, and does not continue one; {_NO_USE}"
        )
    if architecture in _DIFFUSION:
        return (
            f"a diffusion model ({architecture}): it fills in a text in any order, and does not "
            f"continue one; {_NO_USE}"
        )
    if architecture in _DRAFTS:
        return (
            f"a draft model ({architecture}), which only guesses ahead for a larger model; "
            f"{_NO_USE}: {_GIVE_MODEL}"
        )
    if architecture in _SPEECH:
        return f"a model of speech ({architecture}): it writes no text; {_NO_USE}"
    if fields.get(f"{architecture}.pooling_type") == _POOLING_RANK:
        return (
            f"a reranker ({architecture}): it rates how well a text answers a question, and makes "
            f"neither text nor embeddings; {_NO_USE}"
        )
    return None


def _embedding_model(fields: Mapping[str, Any]) -> str | None:
    architecture = fields.get("general.architecture")
    if is_encoder(architecture):
        return f"an encoder ({architecture}): {_EMBEDDINGS}"
    pooling = fields.get(f"{architecture}.pooling_type")
    if type(pooling) is int and pooling > 0:
        return f"an embedding model ({architecture}): {_EMBEDDINGS}"
    if fields.get(f"{architecture}.attention.causal") is False:
        return f"an encoder ({architecture} with attention to both sides): {_EMBEDDINGS}"
    return None
