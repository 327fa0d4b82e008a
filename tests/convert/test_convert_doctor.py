"""The doctor refuses checkpoints that would run wrong, and warns of other oddities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import (
    PUBLISHED_SHAPES,
    SPECIAL_IDS,
    write_checkpoint,
    write_hollow_checkpoint,
)

import convert
from convert import ConvertError

SMALL = {"num_local_experts": 2}
SHORT = {"max_position_embeddings": 4096}

ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "chunk size": ({"attention_chunk_size": 4096}, "attention_chunk_size is 4096"),
    "no chunks": ({"attention_chunk_size": None}, "attention_chunk_size is None"),
    "NoPE interval": ({"no_rope_layer_interval": 2}, "no_rope_layers"),
    "NoPE layers": ({"no_rope_layers": [1, 1, 0, 1]}, "no_rope_layers"),
    "layer types": ({"layer_types": ["chunked_attention"] * 4}, "layer_types"),
    "all global": ({"layer_types": ["full_attention"] * 4}, "no layer is chunked"),
    "floor": ({"floor_scale": 4096}, "temperature"),
    "scale": ({"attn_scale": 0.2}, "temperature"),
    "untuned": ({"attn_temperature_tuning": False}, "temperature"),
    "QK norm": ({"use_qk_norm": False}, "use_qk_norm is False"),
    "rope type": ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "yarn"),
    "activation": ({"hidden_act": "gelu"}, "hidden_act is gelu"),
    "experts a token": ({"num_experts_per_tok": 3}, "3 experts a token, but there are only 2"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_would_run_wrong_is_refused_unless_forced(name: str, tmp_path: Path) -> None:
    overrides, message = ERRORS[name]
    checkpoint = write_checkpoint(tmp_path / "model", **SMALL, **overrides)
    with pytest.raises(ConvertError, match=message) as caught:
        convert.plan(checkpoint, "Q8_0")
    assert "config.json" in str(caught.value)
    assert "--force" in str(caught.value)
    assert "\n" not in str(caught.value)
    findings = convert.plan(checkpoint, "Q8_0", force=True).findings
    assert any(finding.level == "error" and message in finding.message for finding in findings)


@pytest.mark.parametrize("name", ["chunk size", "no chunks", "untuned", "scale"])
def test_what_only_long_contexts_would_show_is_fine_in_short_ones(
    name: str, tmp_path: Path
) -> None:
    overrides, _ = ERRORS[name]
    checkpoint = write_checkpoint(tmp_path / "model", **SMALL, **overrides, **SHORT)
    assert convert.plan(checkpoint, "Q8_0").findings == ()


def test_an_expert_pruned_maverick_is_caught(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", kind="maverick", num_local_experts=64)
    with pytest.raises(ConvertError, match=r"with 64 experts llama\.cpp normalizes"):
        convert.plan(checkpoint, "Q8_0")


def test_scout_s_first_rope_config_is_noticed(tmp_path: Path) -> None:
    stale = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    shapes = PUBLISHED_SHAPES | {"rope_scaling": stale}
    checkpoint = write_hollow_checkpoint(tmp_path / "model", shapes=shapes)
    (finding,) = convert.plan(checkpoint, "Q4_K_M").findings
    assert finding.level == "warning"
    assert "corrected to 16" in finding.message


def test_contradictory_rope_settings_are_noticed(tmp_path: Path) -> None:
    new = {"rope_type": "llama3", "factor": 16.0, "rope_theta": 500_000.0}
    checkpoint = write_checkpoint(
        tmp_path / "model", rope_parameters=new, rope_scaling=new | {"factor": 8.0}, **SMALL
    )
    (finding,) = convert.plan(checkpoint, "Q4_K_M").findings
    assert "differ in factor" in finding.message


def test_a_layer_count_that_hints_at_pruning_is_noticed(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", num_hidden_layers=3, **SMALL)
    (finding,) = convert.plan(checkpoint, "Q8_0").findings
    assert "pruned" in finding.message


def test_a_vocabulary_unfit_for_chat_is_noticed(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", bos_token_id=None, eos_token_id=None, **SMALL)
    (checkpoint / "tokenizer_config.json").unlink()
    path = checkpoint / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    for entry in tokenizer["added_tokens"]:
        entry["content"] = entry["content"].replace("eot", "end").replace("eom", "more")
    tokenizer["post_processor"] = None
    path.write_text(json.dumps(tokenizer))
    levels = {finding.level for finding in convert.plan(checkpoint, "Q8_0").findings}
    messages = " ".join(finding.message for finding in convert.plan(checkpoint, "Q8_0").findings)
    assert levels == {"warning"}
    for word in ("chat template", "beginning-of-text", "end token"):
        assert word in messages


# changes to the config of a published model, and the warning
SUSPECT: dict[str, tuple[dict[str, Any], str]] = {
    "layers": ({"num_hidden_layers": 44}, "44 layers where Llama 4 has 48"),
    "experts": ({"num_local_experts": 12}, "12 experts where Llama 4 has 16 or 128"),
    "scaling lost": ({"rope_scaling": None}, "no RoPE scaling: the config is outdated"),
}


@pytest.mark.parametrize("name", SUSPECT)
def test_a_model_that_is_not_quite_the_published_one_is_noticed(name: str, tmp_path: Path) -> None:
    overrides, message = SUSPECT[name]
    shapes = PUBLISHED_SHAPES | overrides
    checkpoint = write_hollow_checkpoint(tmp_path / "model", shapes=shapes)
    (finding,) = convert.plan(checkpoint, "Q4_K_M").findings
    assert finding.level == "warning"
    assert message in finding.message


def test_a_published_model_raises_no_eyebrow(tmp_path: Path) -> None:
    for kind in ("scout", "maverick"):
        checkpoint = write_hollow_checkpoint(tmp_path / kind, kind=kind)
        assert convert.plan(checkpoint, "Q4_K_M").findings == ()


def test_two_thetas_are_noticed(tmp_path: Path) -> None:
    new = {"rope_type": "llama3", "factor": 16.0, "rope_theta": 10_000.0}
    checkpoint = write_checkpoint(tmp_path / "model", rope_parameters=new, **SMALL)
    assert "differ in rope_theta" in convert.plan(checkpoint, "Q4_K_M").findings[0].message


# file, changes to it, level, message
TOKENIZERS: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "no template": (
        "tokenizer_config.json",
        {"chat_template": None},
        "warning",
        "no chat template",
    ),
    "another model's template": (
        "tokenizer_config.json",
        {"chat_template": "<|im_start|>{{ messages }}<|im_end|>"},
        "warning",
        "the chat template uses <|im_end|>, <|im_start|>, which the vocabulary lacks",
    ),
    "eos that is no token": (
        "tokenizer_config.json",
        {"eos_token": "</s>"},
        "warning",
        "the eos token is stated as </s>",
    ),
    "bos beyond the vocabulary": (
        "config.json",
        {"bos_token_id": 9999},
        "warning",
        "the bos token is stated as 9999",
    ),
    "an end llama.cpp does not know": (
        "generation_config.json",
        {"eos_token_id": [SPECIAL_IDS["<|eot|>"], SPECIAL_IDS["<|step|>"]]},
        "warning",
        "answers also end on <|step|>",
    ),
    "bos put before a text, but none named": (
        "config.json",
        {"bos_token_id": None},
        "error",
        "but none is named",
    ),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_what_is_odd_about_special_tokens_is_noticed(name: str, tmp_path: Path) -> None:
    file, changes, level, message = TOKENIZERS[name]
    checkpoint = write_checkpoint(tmp_path / "model", **SMALL)
    if "bos" in name:
        edit(checkpoint / "tokenizer_config.json", {"bos_token": None})
    edit(checkpoint / file, changes)
    findings = convert.plan(checkpoint, "Q8_0", force=True).findings
    assert [f.level for f in findings if message in f.message] == [level]


def edit(path: Path, changes: dict[str, Any]) -> None:
    value = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(value | changes))
