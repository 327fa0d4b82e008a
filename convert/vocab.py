"""tokenizer.json and its companions -> a GGUF vocabulary.

Byte-level BPE only. Which of llama.cpp's pre-tokenizers fits is told by the split regex itself: a
wrong one costs 8 to 10 percent more tokens unnoticed, so what is not recognised is refused.
Sources: llama.cpp ``conversion/base.py`` (get_vocab_base), gguf ``vocab.py`` (SpecialVocab).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convert.checkpoint import read_json
from convert.errors import ConvertError
from convert.fields import Field, boolean, i32s, string, strings, u32

_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5  # llama.cpp's token types

# Split regex of tokenizer.json -> llama.cpp's name of the same (src/llama-vocab.cpp).
_PRE_TOKENIZERS = {
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+": "llama4",
}

# Ends a model may emit besides its eos, by the texts Llama 4 gives them.
_END_TEXTS = {"eot": "<|eot|>", "eom": "<|eom|>"}
_SPECIAL_KINDS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id, and what surrounds them. `special_ids` maps bos, eos, eot ... to ids."""

    tokens: list[str] = field(repr=False)
    token_types: list[int] = field(repr=False)
    merges: list[str] = field(repr=False)
    pre: str
    special_ids: Mapping[str, int]
    adds: Mapping[str, bool]  # whether bos, eos, sep are added to a prompt
    chat_template: str | None
    named_templates: Mapping[str, str]


def read_vocabulary(src: Path, vocab_size: int, config: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary of the checkpoint in `src`, padded to `vocab_size` tokens.

    `config` is the language model's part of config.json, for ids the tokenizer does not name.
    Raises ConvertError if the tokenizer is not one llama.cpp would reproduce.
    """
    path = src / "tokenizer.json"
    settings_path = src / "tokenizer_config.json"
    tokenizer = read_json(path)
    settings = read_json(settings_path) if settings_path.is_file() else {}
    try:
        return _parse(path, tokenizer, settings, vocab_size, config)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ConvertError(f"{path}: malformed ({error!r}); fetch it again") from error


def _parse(
    path: Path,
    tokenizer: Mapping[str, Any],
    settings: Mapping[str, Any],
    vocab_size: int,
    config: Mapping[str, Any],
) -> Vocabulary:
    model = tokenizer.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        raise ConvertError(f"{path}: not a BPE tokenizer; only byte-level BPE can be converted")
    pre = _recognize(path, tokenizer)
    added = {entry["id"]: entry for entry in tokenizer.get("added_tokens") or []}
    tokens, token_types = _tokens(path, model.get("vocab") or {}, added, vocab_size)
    template, named = _templates(path.parent, settings)
    ids = {entry["content"]: id_ for id_, entry in added.items()}
    return Vocabulary(
        tokens=tokens,
        token_types=token_types,
        merges=[_merge(merge) for merge in model.get("merges") or []],
        pre=pre,
        special_ids=_special_ids(settings, config, ids, vocab_size),
        adds=_adds(tokenizer, settings),
        chat_template=template,
        named_templates=named,
    )


def vocabulary_fields(vocab: Vocabulary) -> dict[str, Field]:
    """The vocabulary as GGUF metadata."""
    fields = {
        "model": string("gpt2"),
        "pre": string(vocab.pre),
        "tokens": strings(vocab.tokens),
        "token_type": i32s(vocab.token_types),
        "merges": strings(vocab.merges),
    }
    fields |= {f"{_key(kind)}_token_id": u32(id_) for kind, id_ in vocab.special_ids.items()}
    fields |= {f"add_{kind}_token": boolean(is_on) for kind, is_on in vocab.adds.items()}
    if vocab.chat_template is not None:
        fields["chat_template"] = string(vocab.chat_template)
    if vocab.named_templates:
        fields["chat_templates"] = strings(list(vocab.named_templates))
        for name, template in vocab.named_templates.items():
            fields[f"chat_template.{name}"] = string(template)
    return {f"tokenizer.{_section(key)}{key}": value for key, value in fields.items()}


def _section(key: str) -> str:
    return "" if key.startswith("chat_template") else "ggml."


def _key(kind: str) -> str:
    return {"unk": "unknown", "sep": "seperator", "pad": "padding"}.get(kind, kind)  # sic


def _recognize(path: Path, tokenizer: Mapping[str, Any]) -> str:
    """llama.cpp's name of the pre-tokenizer."""
    if tokenizer.get("normalizer"):
        raise ConvertError(f"{path}: its normalizer is not one llama.cpp would apply")
    steps = list(_steps(tokenizer.get("pre_tokenizer")))
    patterns = [step["pattern"].get("Regex") for step in steps if step.get("type") == "Split"]
    kinds = [step.get("type") for step in steps]
    pre = _PRE_TOKENIZERS.get(patterns[0]) if len(patterns) == 1 else None
    if pre is None or kinds != ["Split", "ByteLevel"] or steps[1].get("use_regex", True):
        raise ConvertError(
            f"{path}: its pre-tokenizer is not one of those known ({', '.join(_names())}); fetch "
            "the original tokenizer.json, as re-saved ones often lose their split regex"
        )
    return pre


def _names() -> list[str]:
    return sorted(set(_PRE_TOKENIZERS.values()))


def _steps(node: Any) -> Iterator[dict[str, Any]]:
    """The steps of a pre-tokenizer or post-processor, sequences unrolled."""
    if not isinstance(node, dict):
        return
    children = node.get("pretokenizers") or node.get("processors")
    if children:
        for child in children:
            yield from _steps(child)
    else:
        yield node


def _tokens(
    path: Path, vocab: Mapping[str, int], added: Mapping[int, Mapping[str, Any]], vocab_size: int
) -> tuple[list[str], list[int]]:
    tokens = [f"[PAD{id_}]" for id_ in range(vocab_size)]
    token_types = [_UNUSED] * vocab_size
    named = {id_: text for text, id_ in vocab.items()}
    next_id = len(vocab)
    for id_, entry in added.items():
        if entry["content"] not in vocab:
            # The tokenizers library ignores the id stated and counts on; such a file misleads.
            if id_ != next_id:
                raise ConvertError(
                    f"{path}: the added token {entry['content']} states the id {id_}, but Hugging "
                    f"Face's tokenizers give it {next_id}; save the tokenizer anew"
                )
            next_id += 1
        named[id_] = entry["content"]
    if not named or max(named) >= vocab_size:
        raise ConvertError(
            f"{path}: has ids up to {max(named, default=-1)}, "
            f"but config.json says vocab_size {vocab_size}"
        )
    for id_, text in named.items():
        tokens[id_] = text
        token_types[id_] = _added_type(added[id_]) if id_ in added else _NORMAL
    return tokens, token_types


def _added_type(entry: Mapping[str, Any]) -> int:
    # Some checkpoints forget to mark their control tokens; the shape of the text tells them.
    text = entry["content"]
    is_control = entry.get("special") or (text.startswith("<|") and text.endswith("|>"))
    return _CONTROL if is_control else _USER_DEFINED


def _merge(merge: str | list[str]) -> str:
    # Either "a b" or, since tokenizers 0.20, ["a", "b"], whose parts may contain spaces.
    if isinstance(merge, str):
        return merge
    return " ".join(part.replace(" ", chr(ord(" ") + 256)) for part in merge)


def _special_ids(
    settings: Mapping[str, Any], config: Mapping[str, Any], ids: Mapping[str, int], vocab_size: int
) -> dict[str, int]:
    found: dict[str, int] = {}
    for kind in _SPECIAL_KINDS:
        stated = settings.get(f"{kind}_token")
        text = stated.get("content") if isinstance(stated, dict) else stated
        id_ = ids.get(text) if isinstance(text, str) else None
        if id_ is None:
            id_ = config.get(f"{kind}_token_id")
        if isinstance(id_, list):  # Llama 4 lists three ends; the first closes a text
            id_ = id_[0] if id_ else None
        if type(id_) is int and 0 <= id_ < vocab_size:
            found[kind] = id_
    found |= {kind: ids[text] for kind, text in _END_TEXTS.items() if text in ids}
    return found


def _adds(tokenizer: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, bool]:
    """What the post-processor puts around a text; tokenizer_config.json where it is silent."""
    adds: dict[str, bool] = {}
    for step in _steps(tokenizer.get("post_processor")):
        if step.get("type") == "ByteLevel":
            adds = {"bos": False, "eos": False} | adds
        elif step.get("type") == "TemplateProcessing":
            single, pair = step.get("single") or [], step.get("pair") or []
            if len(single) > 1 and "SpecialToken" in single[0]:
                adds["bos"] = True
            if len(single) > 1 and "SpecialToken" in single[-1]:
                adds["eos"] = True
            if sum("SpecialToken" in entry for entry in pair) > 1:
                adds["sep"] = False  # a decoder's pair is two beginnings, not two halves
    for kind in ("bos", "eos"):
        stated = settings.get(f"add_{kind}_token")
        if kind not in adds and isinstance(stated, bool):
            adds[kind] = stated
    return adds


def _templates(src: Path, settings: Mapping[str, Any]) -> tuple[str | None, dict[str, str]]:
    """The default chat template and the further ones by name."""
    stated = settings.get("chat_template")
    if stated is None:
        stated = _template_file(src)
    if isinstance(stated, str):
        return stated, {}
    entries = stated if isinstance(stated, list) else []
    named = {entry["name"]: entry["template"] for entry in entries}
    return named.pop("default", None), named


def _template_file(src: Path) -> Any:
    jinja = src / "chat_template.jinja"
    if jinja.is_file():
        return jinja.read_text(encoding="utf-8")
    as_json = src / "chat_template.json"
    return read_json(as_json).get("chat_template") if as_json.is_file() else None
