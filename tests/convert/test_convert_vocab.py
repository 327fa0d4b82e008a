"""Vocabularies: known tokenizers are converted completely, others are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp
import pytest
from checkpoints import CHAT_TEMPLATE, SPECIAL_IDS, VOCAB_SIZE, write_checkpoint, write_tokenizer
from conftest import GOLDEN
from tiny_tokenizer import BYTE_LEVEL, N_PIECES, write_sentencepiece

import convert
from convert import ConvertError
from convert.doctor.checkpoint import diagnose_vocabulary
from convert.gguf.fields import encode_header, string
from convert.tokenizer.vocab import Vocabulary, read_vocabulary, vocabulary_fields

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


def test_a_template_file_is_newer_than_what_stands_in_the_settings(tokenizer: Path) -> None:
    (tokenizer / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    assert not said_of(tokenizer, "older chat template")
    (tokenizer / "chat_template.jinja").write_text("newer")
    (tokenizer / "additional_chat_templates").mkdir()
    (tokenizer / "additional_chat_templates" / "tool_use.jinja").write_text("with tools")
    vocab = read(tokenizer)
    assert (vocab.chat_template, vocab.named_templates) == ("newer", {"tool_use": "with tools"})
    assert said_of(tokenizer, "chat_template.jinja is taken; tokenizer_config.json has another")


def said_of(tokenizer: Path, words: str) -> bool:
    return any(words in finding.message for finding in diagnose_vocabulary(read(tokenizer)))


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


def load_vocabulary(path: Path) -> Any:
    """Load the vocabulary of a GGUF with llama.cpp; None if it refuses the file."""
    llama_cpp.llama_log_set(_silence, None)
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    return llama_cpp.llama_model_load_from_file(str(path).encode(), params)


def tokenize(model: Any, text: str) -> list[int]:
    buffer = (llama_cpp.llama_token * 256)()
    vocab, raw = llama_cpp.llama_model_get_vocab(model), text.encode()
    n = llama_cpp.llama_tokenize(vocab, raw, len(raw), buffer, len(buffer), False, False)
    return list(buffer[:n])


def write_vocabulary(source: Path, out: Path, vocab_size: int) -> Path:
    """Write a GGUF that holds only the vocabulary in the directory `source`."""
    fields = {"general.architecture": string("llama")}
    fields |= vocabulary_fields(read(source, vocab_size))
    out.write_bytes(encode_header(fields, []))
    return out


GOLDEN_TOKENS = json.loads((GOLDEN / "tokens.json").read_text())


@pytest.mark.parametrize("kind", [*BYTE_LEVEL, "sentencepiece", "sentencepiece in json"])
def test_llama_cpp_makes_the_tokens_that_hugging_face_makes(kind: str, tmp_path: Path) -> None:
    if kind in BYTE_LEVEL:
        write_tokenizer(tmp_path, kind)
        vocab_size = VOCAB_SIZE
    else:
        write_sentencepiece(tmp_path, model="json" not in kind)
        vocab_size = N_PIECES
    model = load_vocabulary(write_vocabulary(tmp_path, tmp_path / "vocab.gguf", vocab_size))
    for text, expected in GOLDEN_TOKENS[kind.removesuffix(" in json")].items():
        assert tokenize(model, text) == expected, text
    llama_cpp.llama_model_free(model)


def test_a_sentencepiece_vocabulary_is_the_same_by_either_file(tmp_path: Path) -> None:
    write_sentencepiece(tmp_path)
    expected = read(tmp_path, N_PIECES + 2)
    assert expected.tokens.model == "llama"
    assert expected.tokens.texts[-1] == f"[PAD{N_PIECES + 1}]"
    assert expected.tokens.types[:4] == [3, 3, 3, 6]
    assert expected.special_ids == {"bos": 1, "eos": 2, "unk": 0}
    assert expected.adds == {"bos": True, "sep": False}
    (tmp_path / "tokenizer.model").unlink()
    assert read(tmp_path, N_PIECES + 2) == expected
    (tmp_path / "tokenizer.json").unlink()
    write_sentencepiece(tmp_path, json_too=False)
    assert read(tmp_path, N_PIECES + 2).tokens == expected.tokens
    assert read(tmp_path, N_PIECES + 2).special_ids == expected.special_ids


def test_tokens_added_to_sentencepiece_s_are_kept(tmp_path: Path) -> None:
    write_sentencepiece(tmp_path)

    def add(value: dict[str, Any]) -> None:
        for id_, text, special in ((N_PIECES, "<|im_end|>", False), (N_PIECES + 1, "▁▁x", False)):
            value["added_tokens"].append({"id": id_, "content": text, "special": special})

    edit(tmp_path, "tokenizer.json", add)
    tokens = read(tmp_path, N_PIECES + 2).tokens
    assert tokens.texts[-2:] == ["<|im_end|>", "  x"]
    assert tokens.types[-2:] == [3, 4]


def test_a_model_that_puts_no_space_before_a_text_is_said_to(tmp_path: Path) -> None:
    write_sentencepiece(tmp_path, model=False)
    assert "tokenizer.ggml.add_space_prefix" not in vocabulary_fields(read(tmp_path, N_PIECES))
    edit(tmp_path, "tokenizer.json", lambda value: value["normalizer"]["normalizers"].pop(0))
    fields = vocabulary_fields(read(tmp_path, N_PIECES))
    assert fields["tokenizer.ggml.add_space_prefix"].value is False


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[:-40], "not a SentencePiece model"),
        (lambda _: b"\xff" * 9, "not a SentencePiece model"),
        (lambda raw: raw.replace(b"\x12\x05\x18\x02", b"\x12\x05\x18\x01"), "not a BPE model"),
    ],
    ids=["truncated", "noise", "unigram"],
)
def test_a_tokenizer_model_that_is_none_is_refused(
    damage: Callable[[bytes], bytes], message: str, tmp_path: Path
) -> None:
    write_sentencepiece(tmp_path)
    path = tmp_path / "tokenizer.model"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ConvertError, match=rf"tokenizer\.model: {message}"):
        read(tmp_path, N_PIECES)


def test_a_normalizer_of_another_sentencepiece_is_refused(tmp_path: Path) -> None:
    write_sentencepiece(tmp_path, model=False)
    edit(tmp_path, "tokenizer.json", lambda value: value.update(normalizer={"type": "Lowercase"}))
    with pytest.raises(ConvertError, match=r"tokenizer\.json: its normalizer"):
        read(tmp_path, N_PIECES)
