"""Vocabularies: recognised or refused, and complete."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp
import pytest
from checkpoints import CHAT_TEMPLATE, SPECIAL_IDS, VOCAB_SIZE, write_checkpoint, write_tokenizer

import convert
from convert import ConvertError
from convert.vocab import Vocabulary, read_vocabulary, vocabulary_fields

Edit = Callable[[dict[str, Any]], object]


def read(path: Path, vocab_size: int = VOCAB_SIZE, **config: Any) -> Vocabulary:
    return read_vocabulary(path, vocab_size, config)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    write_tokenizer(tmp_path)
    return tmp_path


def edit(path: Path, name: str, change: Edit) -> None:
    value = json.loads((path / name).read_text())
    change(value)
    (path / name).write_text(json.dumps(value))


def test_tokens_ids_and_types(tokenizer: Path) -> None:
    vocab = read(tokenizer)
    eot = SPECIAL_IDS["<|eot|>"]
    assert vocab.tokens.pre == "llama4"
    assert vocab.tokens.texts[eot] == "<|eot|>"
    assert vocab.tokens.types[eot] == 3
    assert vocab.tokens.types[0] == 1
    assert vocab.tokens.texts[-1] == f"[PAD{VOCAB_SIZE - 1}]"
    assert vocab.tokens.types[-1] == 5
    assert vocab.tokens.merges[0] == "t h"
    assert vocab.adds == {"bos": True, "eos": False, "sep": False}
    assert vocab.chat_template == CHAT_TEMPLATE
    assert vocab.special_ids == {
        "bos": SPECIAL_IDS["<|begin_of_text|>"],
        "eos": eot,
        "pad": SPECIAL_IDS["<|finetune_right_pad|>"],
        "eot": eot,
        "eom": SPECIAL_IDS["<|eom|>"],
    }


def test_merges_in_both_notations_are_the_same(tokenizer: Path) -> None:
    expected = read(tokenizer).tokens.merges

    def join(value: dict[str, Any]) -> None:
        value["model"]["merges"] = [" ".join(pair) for pair in value["model"]["merges"]]

    edit(tokenizer, "tokenizer.json", join)
    assert read(tokenizer).tokens.merges == expected


def test_ids_come_from_the_config_where_the_tokenizer_is_silent(tokenizer: Path) -> None:
    (tokenizer / "tokenizer_config.json").unlink()
    vocab = read(tokenizer, bos_token_id=5, eos_token_id=[7, 8])
    assert (vocab.special_ids["bos"], vocab.special_ids["eos"]) == (5, 7)
    assert vocab.chat_template is None


@pytest.mark.parametrize("name", ["chat_template.jinja", "chat_template.json"])
def test_a_template_may_stand_in_a_file_of_its_own(name: str, tokenizer: Path) -> None:
    edit(tokenizer, "tokenizer_config.json", lambda value: value.pop("chat_template"))
    text = "{{ messages }}"
    as_json = name.endswith("json")
    (tokenizer / name).write_text(json.dumps({"chat_template": text}) if as_json else text)
    assert read(tokenizer).chat_template == text


def test_named_templates_are_kept_beside_the_default(tokenizer: Path) -> None:
    named = [{"name": "default", "template": "A"}, {"name": "tool_use", "template": "B"}]
    edit(tokenizer, "tokenizer_config.json", lambda value: value.update(chat_template=named))
    fields = vocabulary_fields(read(tokenizer))
    assert fields["tokenizer.chat_template"].value == "A"
    assert fields["tokenizer.chat_template.tool_use"].value == "B"
    assert fields["tokenizer.chat_templates"].value == ["tool_use"]


def test_what_is_added_to_a_text_is_told_by_the_post_processor(tokenizer: Path) -> None:
    def keep_template_only(value: dict[str, Any]) -> None:
        value["post_processor"] = value["post_processor"]["processors"][1]

    edit(tokenizer, "tokenizer.json", keep_template_only)
    assert read(tokenizer).adds == {"bos": True, "sep": False}
    edit(tokenizer, "tokenizer.json", lambda value: value.pop("post_processor"))
    assert read(tokenizer).adds == {}
    edit(tokenizer, "tokenizer_config.json", lambda value: value.update(add_bos_token=True))
    assert read(tokenizer).adds == {"bos": True}


def test_unmarked_control_tokens_are_known_by_their_look(tokenizer: Path) -> None:
    def unmark(value: dict[str, Any]) -> None:
        for entry in value["added_tokens"]:
            entry["special"] = False
        value["added_tokens"][-1]["content"] = "plain"

    edit(tokenizer, "tokenizer.json", unmark)
    types = read(tokenizer).tokens.types
    assert types[SPECIAL_IDS["<|eot|>"]] == 3
    assert types[SPECIAL_IDS["<|tile_y_separator|>"]] == 4


REFUSED: dict[str, tuple[Edit, str]] = {
    "another regex": (
        lambda value: value["pre_tokenizer"]["pretokenizers"][0].update(pattern={"Regex": "a+"}),
        "pre-tokenizer is not one of those known",
    ),
    "regex lost": (
        lambda value: value.update(pre_tokenizer={"type": "ByteLevel", "use_regex": True}),
        "pre-tokenizer is not one of those known",
    ),
    "no pre-tokenizer": (lambda value: value.update(pre_tokenizer=None), "not one of those known"),
    "normalizer": (lambda value: value.update(normalizer={"type": "NFC"}), "normalizer"),
    "not BPE": (lambda value: value["model"].update(type="Unigram"), "not a BPE tokenizer"),
    "ids beyond the model's": (
        lambda value: value["added_tokens"].extend(
            {"id": id_, "content": f"<|extra_{id_}|>"} for id_ in range(305, VOCAB_SIZE + 1)
        ),
        f"vocab_size {VOCAB_SIZE}",
    ),
    "a hole before the added tokens": (
        lambda value: value["added_tokens"].pop(0),
        r"<\|end_of_text\|> states the id 287",
    ),
    "empty": (lambda value: value.clear(), "not a BPE tokenizer"),
    "malformed": (lambda value: value.update(added_tokens=[{"id": 1}]), "malformed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_llama_cpp_would_not_reproduce_is_refused(name: str, tokenizer: Path) -> None:
    change, message = REFUSED[name]
    edit(tokenizer, "tokenizer.json", change)
    with pytest.raises(ConvertError, match=message) as caught:
        read(tokenizer)
    assert "tokenizer.json" in str(caught.value)


def test_llama_cpp_tokenizes_with_it_and_knows_every_end(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", num_hidden_layers=1, num_local_experts=2)
    out = tmp_path / "model.gguf"
    convert.convert(convert.plan(checkpoint, "Q8_0"), out)
    llama_cpp.llama_log_set(_silence, None)
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(out).encode(), params)
    assert model is not None
    vocab = llama_cpp.llama_model_get_vocab(model)
    ends = {text for text, id_ in SPECIAL_IDS.items() if llama_cpp.llama_vocab_is_eog(vocab, id_)}
    assert ends == {"<|end_of_text|>", "<|eom|>", "<|eot|>"}
    text = b"<|header_start|>user<|header_end|>\n\nhello world's 12345 ends<|eot|>"
    buffer = (llama_cpp.llama_token * 64)()
    n = llama_cpp.llama_tokenize(vocab, text, len(text), buffer, len(buffer), True, True)
    llama_cpp.llama_model_free(model)
    tokens = read(checkpoint).tokens.texts
    pieces = [tokens[id_] for id_ in buffer[:n]]
    assert pieces[:2] == ["<|begin_of_text|>", "<|header_start|>"]
    assert pieces[-1] == "<|eot|>"
    assert "hello" in pieces
    assert "Ġworld" in pieces


_silence = llama_cpp.llama_log_callback(lambda _level, _text, _data: None)
