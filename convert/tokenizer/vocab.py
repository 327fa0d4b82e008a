"""Turns tokenizer.json and the files that go with it into a GGUF vocabulary.

`bytelevel`, `sentencepiece` and `wordpiece` read the tokens. This file reads the special ids, which
tokens are added around a text, and the chat templates.
Sources: llama.cpp ``conversion/base.py`` (get_vocab_base), gguf ``vocab.py`` (SpecialVocab).
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.errors import ConvertError
from convert.gguf.fields import Field, boolean, f32s, i32s, string, strings, u32
from convert.reading import MOST_TOKENIZER_BYTES, is_there, read_json, read_text
from convert.tokenizer.bytelevel import read_byte_level
from convert.tokenizer.sentencepiece import read_sentencepiece
from convert.tokenizer.tokens import CONTROL, Tokens, unroll
from convert.tokenizer.wordpiece import read_wordpiece

# Tokens, other than eos, with which a model may end; by Llama 4's texts.
_END_TEXTS = {"eot": "<|eot|>", "eom": "<|eom|>"}
# What wrong types in a tokenizer's files raise where they are used.
_MALFORMED = (AttributeError, LookupError, TypeError, ValueError, OverflowError, RecursionError)
_SPECIAL_KINDS = ("bos", "eos", "unk", "sep", "pad", "mask")


@dataclass(frozen=True)
class Vocabulary:
    """A checkpoint's tokens, special ids and chat templates.

    special_ids: ids by kind: bos, eos, eot ...
    unresolved: special tokens, by kind, that the checkpoint states but the vocabulary lacks.
    ends: every id on which answers end by config.json or generation_config.json.
    adds: whether bos, eos and sep are added to a prompt.
    named_templates: further chat templates by name.
    """

    tokens: Tokens
    special_ids: Mapping[str, int]
    unresolved: Mapping[str, str | int]
    ends: tuple[int, ...]
    adds: Mapping[str, bool]
    chat_template: str | None
    named_templates: Mapping[str, str]
    left_older_template: bool = False  # the one in tokenizer_config.json, for chat_template.jinja


def has_tokenizer(src: Path) -> bool:
    """Whether the directory holds a tokenizer of any kind."""
    return any(is_there(src / name) for name in ("tokenizer.json", "tokenizer.model"))


def read_vocabulary(src: Path, vocab_size: int, config: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary of the checkpoint in `src`, padded to `vocab_size` tokens.

    config: the language model's part of config.json; it may state ids that the tokenizer does not.

    Raises ConvertError if llama.cpp cannot reproduce it, or if a file is missing or malformed.
    """
    path = src / "tokenizer.json"
    settings_path = src / "tokenizer_config.json"
    settings = read_json(settings_path) if is_there(settings_path) else {}
    if is_there(path) or not is_there(src / "tokenizer.model"):
        tokenizer = read_json(path, MOST_TOKENIZER_BYTES)
    else:
        path, tokenizer = src / "tokenizer.model", {}
    try:
        return _parse(path, tokenizer, settings, vocab_size, config)
    except _MALFORMED as error:
        why = reprlib.repr(f"{type(error).__name__}: {error}")
        raise ConvertError(f"{path}: malformed ({why}); fetch it again") from error


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
    elif model.get("type") == "WordPiece":
        tokens = read_wordpiece(path, tokenizer, vocab_size)
        settings = _with_text_ends(settings)
    else:
        tokens = read_byte_level(path, tokenizer, vocab_size)
    ids = {entry["content"]: entry["id"] for entry in tokenizer.get("added_tokens") or []}
    for id_, (text, type_) in enumerate(zip(tokens.texts, tokens.types, strict=True)):
        if type_ == CONTROL:
            ids.setdefault(text, id_)
    template, named, left_older = _templates(path.parent, settings)
    for text in (*tokens.texts, *tokens.merges, template or "", *named, *named.values()):
        text.encode("utf-8")  # ValueError for a lone surrogate, which no GGUF can hold
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


def _with_text_ends(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with what begins and ends a text of BERT, which calls it cls and sep."""
    named = dict(settings)
    for kind, theirs in (("bos", "cls"), ("eos", "sep")):
        named[f"{kind}_token"] = settings.get(f"{kind}_token") or settings.get(f"{theirs}_token")
    return named


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
    for key, is_on in (("lowercase", tokens.lowercase), ("strip_accents", tokens.strips_accents)):
        if is_on is not None:
            fields[f"normalizer.{key}"] = boolean(is_on)
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
    """The ids by kind, and the stated bos or eos for which no id was found."""
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
        if isinstance(id_, list):  # Llama 4 lists three ends; the first one is EOS
            id_ = id_[0] if id_ else None
        if type(id_) is int and 0 <= id_ < vocab_size:
            found[kind] = id_
        elif type(id_) is int and kind in ("bos", "eos"):
            unresolved[kind] = id_
    found |= {kind: ids[text] for kind, text in _END_TEXTS.items() if text in ids}
    return found, unresolved


def _ends(src: Path, config: Mapping[str, Any], vocab_size: int) -> tuple[int, ...]:
    """The ids on which answers end by generation_config.json and config.json."""
    path = src / "generation_config.json"
    ends: list[Any] = []
    for values in (read_json(path) if is_there(path) else {}, config):
        stated = values.get("eos_token_id")
        ends += stated if isinstance(stated, list) else [stated]
    return tuple(dict.fromkeys(id_ for id_ in ends if type(id_) is int and 0 <= id_ < vocab_size))


def _adds(tokenizer: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, bool]:
    """Which special tokens are added around a text.

    The post-processor decides; tokenizer_config.json does where the post-processor states nothing.
    """
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
                # In a pair, a decoder's special tokens begin each text; they do not separate them.
                adds["sep"] = False
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
        named[path.stem] = read_text(path)
    newer = _template_file(src)
    if isinstance(newer, str):
        return newer, named, stated not in (None, newer)
    if stated is None:
        stated = _processors_template(src)
    return stated if isinstance(stated, str) else None, named, False


def _template_file(src: Path) -> str | None:
    path = src / "chat_template.jinja"
    return read_text(path) if is_there(path) else None


def _processors_template(src: Path) -> Any:
    path = src / "chat_template.json"
    return read_json(path).get("chat_template") if is_there(path) else None
