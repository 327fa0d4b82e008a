"""BERT: its tensors, tokenizer and pooling, and what llama.cpp would compute otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from checkpoints import read_weights, write_shards
from encoders import CLS_ID, SEP_ID, UNKNOWN_ID, VOCABULARY, write_encoder, write_pooling
from marks import slow_but
from quantizer import quantize

import convert
from convert import ConvertError


def made(checkpoint: Path, ftype: str = "F32") -> Path:
    out = checkpoint.with_name(f"{checkpoint.name}-{ftype}.gguf")
    convert.convert(convert.plan(checkpoint, ftype), out)
    return out


def fields_of(checkpoint: Path) -> dict[str, Any]:
    return {key: field.value for key, field in convert.plan(checkpoint, "F32").fields.items()}


def change(path: Path, edit: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    "ftype", slow_but(("Q8_0", "Q4_K_M"), ["F16", "BF16", "Q8_0", "Q6_K", "Q4_K_M", "IQ4_XS"])
)
def test_the_bytes_are_llama_cpps(ftype: str, tmp_path: Path) -> None:
    shapes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 8}
    checkpoint = write_encoder(tmp_path / "model", **shapes)
    assert made(checkpoint, ftype).read_bytes() == quantize(made(checkpoint), ftype)


def test_a_gguf_of_it_can_be_quantized(tmp_path: Path) -> None:
    checkpoint = write_encoder(tmp_path / "model")
    (plan,) = convert.plan_quantize(made(checkpoint), ["Q8_0"])
    convert.convert(plan, tmp_path / "out.gguf")
    assert (tmp_path / "out.gguf").read_bytes() == made(checkpoint, "Q8_0").read_bytes()


def test_weights_go_where_llama_cpp_has_them_and_heads_stay_behind(tmp_path: Path) -> None:
    checkpoint = write_encoder(tmp_path / "model")
    weights = read_weights(checkpoint)
    tensors = {t.name: np.array(t.data) for t in gguf.GGUFReader(made(checkpoint)).tensors}
    for name, theirs in (
        ("token_embd.weight", "embeddings.word_embeddings.weight"),
        ("position_embd.weight", "embeddings.position_embeddings.weight"),
        ("token_types.weight", "embeddings.token_type_embeddings.weight"),
        ("token_embd_norm.bias", "embeddings.LayerNorm.bias"),
        ("blk.1.attn_k.bias", "encoder.layer.1.attention.self.key.bias"),
        ("blk.1.attn_output.weight", "encoder.layer.1.attention.output.dense.weight"),
        ("blk.1.attn_output_norm.weight", "encoder.layer.1.attention.output.LayerNorm.weight"),
        ("blk.0.ffn_down.weight", "encoder.layer.0.output.dense.weight"),
        ("blk.0.layer_output_norm.bias", "encoder.layer.0.output.LayerNorm.bias"),
    ):
        np.testing.assert_array_equal(tensors[name], weights[theirs], err_msg=name)
    assert len(tensors) == len(weights) - 2  # the pooler


def test_older_names_mean_the_same(tmp_path: Path) -> None:
    checkpoint = write_encoder(tmp_path / "model")
    expected = made(checkpoint).read_bytes()
    old = {}
    for name, array in read_weights(checkpoint).items():
        if "LayerNorm" in name:
            name = name.replace(".weight", ".gamma").replace(".bias", ".beta")
        old[f"bert.{name}"] = array
    old["cls.predictions.bias"] = np.zeros(3, np.float32)
    write_shards(checkpoint, old, dtype="F32", shards=1)
    change(checkpoint / "config.json", lambda c: c.update(architectures=["BertForMaskedLM"]))
    assert made(checkpoint).read_bytes() == expected


def test_metadata_state_what_begins_and_ends_a_text(tmp_path: Path) -> None:
    fields = fields_of(write_encoder(tmp_path / "model"))
    assert fields["general.architecture"] == "bert"
    assert fields["bert.attention.causal"] is False
    assert fields["tokenizer.ggml.model"] == "bert"
    assert fields["tokenizer.ggml.token_type_count"] == 2
    ids = {"bos": CLS_ID, "eos": SEP_ID, "seperator": SEP_ID, "unknown": UNKNOWN_ID}
    for kind, id_ in ids.items():
        assert fields[f"tokenizer.ggml.{kind}_token_id"] == id_
    assert fields["tokenizer.ggml.normalizer.lowercase"] is True
    tokens = fields["tokenizer.ggml.tokens"]
    assert tokens[CLS_ID] == "[CLS]"
    assert tokens[VOCABULARY.index("cat")] == "▁cat"
    assert tokens[VOCABULARY.index("##ing")] == "ing"


@pytest.mark.parametrize(("pooling", "number"), [("mean", 1), ("cls", 2), ("lasttoken", 3)])
def test_pooling_is_carried_over(pooling: str, number: int, tmp_path: Path) -> None:
    old = write_encoder(tmp_path / "old", pooling=pooling)
    assert fields_of(old)["bert.pooling_type"] == number
    new = write_encoder(tmp_path / "new", pooling=pooling)
    (new / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": pooling}))
    assert fields_of(new)["bert.pooling_type"] == number


def test_without_these_files_no_pooling_is_stated(tmp_path: Path) -> None:
    assert "bert.pooling_type" not in fields_of(write_encoder(tmp_path / "model", pooling=None))


def in_config(**values: Any) -> Callable[[Path], None]:
    return lambda src: change(src / "config.json", lambda config: config.update(values))


def in_tokenizer(part: str, **values: Any) -> Callable[[Path], None]:
    return lambda src: change(src / "tokenizer.json", lambda c: c[part].update(values))


def pooling(**values: Any) -> Callable[[Path], None]:
    return lambda src: (src / "1_Pooling" / "config.json").write_text(json.dumps(values)) and None


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "activation": (in_config(hidden_act="relu"), "hidden_act is relu; llama.cpp computes gelu"),
    "heads": (in_config(num_attention_heads=3), "hidden_size 128 is no multiple of 3 heads"),
    "positions": (
        in_config(position_embedding_type="relative_key"),
        "position_embedding_type is relative_key",
    ),
    "decoder": (in_config(is_decoder=True), "is_decoder is true"),
    "vocabulary": (in_config(vocab_size=5), "config.json says vocab_size 5"),
    "normalizer": (in_tokenizer("normalizer", type="NFC"), "has the normalizer NFC"),
    "cleaning": (in_tokenizer("normalizer", clean_text=False), "clean_text turned off"),
    "splitting": (in_tokenizer("pre_tokenizer", type="Whitespace"), "pre-tokenizer Whitespace"),
    "prefix": (in_tokenizer("model", continuing_subword_prefix="@@"), "with '@@', not with '##'"),
    "unknown": (in_tokenizer("model", unk_token="<unk>"), "lacks the token for unknown words"),
    "vocab of a list": (in_tokenizer("model", vocab=["[UNK]"]), "malformed"),
    "ids of texts": (in_tokenizer("model", vocab={"a": "x", "[UNK]": 1}), "malformed"),
    "further step": (lambda src: write_pooling(src, "mean", "Dense"), "has the step 'Dense'"),
    "max": (pooling(pooling_mode_max_tokens=True), "asks for the pooling max_tokens"),
    "two": (
        pooling(pooling_mode_mean_tokens=True, pooling_mode_cls_token=True),
        "asks for the pooling mean, cls",
    ),
    "no pooling": (pooling(pooling_mode="none"), "asks for the pooling 'none'"),
    "no mode": (pooling(), "asks for the pooling none"),
    "a list for a mode": (pooling(pooling_mode=[1]), "asks for the pooling"),
    "outside": (
        lambda src: change(src / "modules.json", lambda m: m[1].update(path="../../etc")),
        "not a type and a path",
    ),
    "no list": (lambda src: (src / "modules.json").write_text("{}"), "is not a JSON list"),
    "no objects": (lambda src: (src / "modules.json").write_text("[1]"), "not a type and a path"),
    "no JSON": (lambda src: (src / "modules.json").write_text("["), "is not JSON"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_computed_otherwise_is_refused(name: str, tmp_path: Path) -> None:
    spoil, message = REFUSED[name]
    checkpoint = write_encoder(tmp_path / "model")
    spoil(checkpoint)
    with pytest.raises(ConvertError) as caught:
        convert.plan(checkpoint, "F32")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_it_says_what_it_is(tmp_path: Path) -> None:
    checkpoint = write_encoder(tmp_path / "model")
    assert convert.describe(checkpoint).findings == ()
    (finding,) = convert.describe(made(checkpoint)).findings
    assert finding.level == "warning"
    assert "l4 serve --embed" in finding.message
