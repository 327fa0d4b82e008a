"""tokenizer.json and its companions -> a GGUF vocabulary.

The tokens themselves are read in `bytelevel` and `sentencepiece`; here are the special ids, what is
put around a text, and the chat templates.
Sources: llama.cpp ``conversion/base.py`` (get_vocab_base), gguf ``vocab.py`` (SpecialVocab).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.checkpoint.checkpoint import read_json
from convert.errors import ConvertError
from convert.gguf.fields import Field, boolean, f32s, i32s, string, strings, u32
from convert.tokenizer.bytelevel import read_byte_level
from convert.tokenizer.sentencepiece import read_sentencepiece
from convert.tokenizer.tokens import CONTROL, Tokens, unroll

# Ends a model may emit besides its eos, by the texts Llama 4 gives them.
_END_TEXTS = {"eot": "<|eot|>", "eom": "<|eom|>"}
_SPECIAL_KINDS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


@dataclass(frozen=True)
class Vocabulary:
    """Tokens, and what surrounds them. `special_ids` maps bos, eos, eot ... to ids.

    `unresolved` holds special tokens that are stated but not in the vocabulary; `ends` every id
    that the checkpoint would have answers end on.
    """

    tokens: Tokens
    special_ids: Mapping[str, int]
    unresolved: Mapping[str, str | int]
    ends: tuple[int, ...]
    adds: Mapping[str, bool]  # whether bos, eos, sep are added to a prompt
    chat_template: str | None
    named_templates: Mapping[str, str]
    left_older_template: bool = False  # the one in tokenizer_config.json, for chat_template.jinja


def has_tokenizer(src: Path) -> bool:
    """Whether the directory holds a tokenizer of either kind."""
    return any((src / name).is_file() for name in ("tokenizer.json", "tokenizer.model"))


def read_vocabulary(src: Path, vocab_size: int, config: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary of the checkpoint in `src`, padded to `vocab_size` tokens.

    `config` is the language model's part of config.json, for ids the tokenizer does not name.
    Raises ConvertError if the tokenizer is not one llama.cpp would reproduce.
    """
    path = src / "tokenizer.json"
    settings_path = src / "tokenizer_config.json"
    settings = read_json(settings_path) if settings_path.is_file() else {}
    if path.is_file() or not (src / "tokenizer.model").is_file():
        tokenizer = read_json(path)
    else:
        path, tokenizer = src / "tokenizer.model", {}
    try:
        return _parse(path, tokenizer, settings, vocab_size, config)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ConvertError(f"{path}: malformed ({error!r}); fetch it again") from error


def _parse(
    path: Path,
    tokenizer: Mapping[str, Any],
    settings: Mapping[str, Any],
    vocab_size: int,
    config: Mapping[str, Any],
) -> Vocabulary:
    model = tokenizer.get("model") or {}
    if path.name == "tokenizer.model" or model.get("byte_fallback"):
        tokens = read_sentencepiece(path, tokenizer, settings, vocab_size)
    else:
        tokens = read_byte_level(path, tokenizer, vocab_size)
    ids = {entry["content"]: entry["id"] for entry in tokenizer.get("added_tokens") or []}
    for id_, (text, type_) in enumerate(zip(tokens.texts, tokens.types, strict=True)):
        if type_ == CONTROL:
            ids.setdefault(text, id_)
    template, named, left_older = _templates(path.parent, settings)
    special_ids, unresolved = _special_ids(settings, config, ids, vocab_size)
    return Vocabulary(
        tokens=tokens,
        special_ids=special_ids,
        unresolved=unresolved,
        ends=_ends(path.parent, config, vocab_size),
        adds=_adds(tokenizer, settings),
        chat_template=template,
        named_templates=named,
        left_older_template=left_older,
    )


def vocabulary_fields(vocab: Vocabulary) -> dict[str, Field]:
    """The vocabulary as GGUF metadata."""
    tokens, fields = vocab.tokens, {}
    if tokens.adds_space is not None:
        fields["add_space_prefix"] = boolean(tokens.adds_space)
    fields["model"] = string(tokens.model)
    fields["pre"] = string(tokens.pre)
    fields["tokens"] = strings(tokens.texts)
    if tokens.scores:
        fields["scores"] = f32s(tokens.scores)
    fields["token_type"] = i32s(tokens.types)
    if tokens.model == "gpt2":
        fields["merges"] = strings(tokens.merges)
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


def _special_ids(
    settings: Mapping[str, Any], config: Mapping[str, Any], ids: Mapping[str, int], vocab_size: int
) -> tuple[dict[str, int], dict[str, str | int]]:
    """Ids by kind, and what is stated of a kind that no id could be found for."""
    found: dict[str, int] = {}
    unresolved: dict[str, str | int] = {}
    for kind in _SPECIAL_KINDS:
        stated = settings.get(f"{kind}_token")
        text = stated.get("content") if isinstance(stated, dict) else stated
        id_ = ids.get(text) if isinstance(text, str) else None
        if id_ is None and isinstance(text, str) and kind in ("bos", "eos"):
            unresolved[kind] = text
        if id_ is None:
            id_ = config.get(f"{kind}_token_id")
        if isinstance(id_, list):  # Llama 4 lists three ends; the first closes a text
            id_ = id_[0] if id_ else None
        if type(id_) is int and 0 <= id_ < vocab_size:
            found[kind] = id_
        elif type(id_) is int and kind in ("bos", "eos"):
            unresolved[kind] = id_
    found |= {kind: ids[text] for kind, text in _END_TEXTS.items() if text in ids}
    return found, unresolved


def _ends(src: Path, config: Mapping[str, Any], vocab_size: int) -> tuple[int, ...]:
    """The ids that config.json and generation_config.json end an answer on."""
    path = src / "generation_config.json"
    ends: list[Any] = []
    for values in (read_json(path) if path.is_file() else {}, config):
        stated = values.get("eos_token_id")
        ends += stated if isinstance(stated, list) else [stated]
    return tuple(dict.fromkeys(id_ for id_ in ends if type(id_) is int and 0 <= id_ < vocab_size))


def _adds(tokenizer: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, bool]:
    """What the post-processor puts around a text; tokenizer_config.json where it is silent."""
    adds: dict[str, bool] = {}
    for step in unroll(tokenizer.get("post_processor")):
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


def _templates(src: Path, settings: Mapping[str, Any]) -> tuple[str | None, dict[str, str], bool]:
    """The default chat template, the further ones by name, and whether an older one was left out.

    As transformers reads them: files beside tokenizer_config.json are newer than what stands in it.
    """
    stated = settings.get("chat_template")
    named: dict[str, str] = {}
    if isinstance(stated, list):
        named = {entry["name"]: entry["template"] for entry in stated}
        stated = named.pop("default", None)
    for path in sorted((src / "additional_chat_templates").glob("*.jinja")):
        named[path.stem] = path.read_text(encoding="utf-8")
    newer = _template_file(src)
    if isinstance(newer, str):
        return newer, named, stated not in (None, newer)
    if stated is None:
        stated = _processors_template(src)
    return stated if isinstance(stated, str) else None, named, False


def _template_file(src: Path) -> str | None:
    path = src / "chat_template.jinja"
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _processors_template(src: Path) -> Any:
    path = src / "chat_template.json"
    return read_json(path).get("chat_template") if path.is_file() else None
