"""`l4 info`: describes a model in one screen, from its headers alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_checkpoint, write_hollow_checkpoint, write_outline
from conftest import L4
from decoders import write_decoder
from gguf_fuzz import edited
from typer.testing import CliRunner

import convert
from convert.gguf.fields import f32, string, strings, u32
from l4cli.app import app
from l4cli.errors import L4Error


def run(*args: str | Path) -> Any:
    """Run the command in this process."""
    return CliRunner().invoke(app, ["info", *map(str, args)])


def facts(*args: str | Path) -> Any:
    done = run(*args, "--json")
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, and a GGUF of it."""
    folder = tmp_path_factory.mktemp("info")
    write_checkpoint(folder / "Tiny", num_local_experts=4)
    convert.convert(convert.plan(folder / "Tiny", "Q4_K_M"), folder / "tiny.gguf")
    return folder


def test_a_screen_of_80_columns(l4: L4, folder: Path) -> None:
    done = l4("info", folder / "tiny.gguf")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) < 40
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("tiny.gguf: llama4 'Tiny', Q4_K_M, ")
    for text in (
        "  layers       4, 256 wide",
        "4 heads, 1 KV heads, 64 wide; three chunked layers",
        "  experts      4, 1 used per token; 256 wide",
        "  context      10,485,760 tokens",
        "  RoPE         base 500,000, scaling llama3, 64 dimensions",
        "  tokenizer    gpt2/llama4, 352 tokens",
        "  sampling     top_p 0.9, temp 0.6",
        "  recipe       Q4_K_M, as llama-quantize makes it",
    ):
        assert text in done.stdout
    routed = next(line for line in lines if line.startswith("routed experts"))
    assert routed.split()[2] == "12"
    assert "TENSOR " not in done.stdout
    assert "blk.0.ffn_down_exps.weight" in run(folder / "tiny.gguf", "--tensors").stdout


def test_the_numbers_are_those_of_the_plan(folder: Path) -> None:
    plan = convert.plan(folder / "Tiny", "Q4_K_M")
    found = facts(folder / "tiny.gguf", "--tensors")
    for key in ("architecture", "n_bytes", "n_params", "n_params_active"):
        assert found[key] == getattr(plan, key)
    assert found["bits_per_weight"] == round(plan.bits_per_weight, 3)
    assert (found["type"], found["type_is_stated"], found["unlike_recipe"]) == ("Q4_K_M", True, {})
    assert [(t["name"], tuple(t["shape"]), t["type"], t["n_bytes"]) for t in found["tensors"]] == [
        (t.name, t.shape, t.qtype, t.n_bytes) for t in plan.tensors
    ]
    assert sum(group["n_params"] for group in found["groups"]) == plan.n_params
    assert found["tokenizer"]["special"]["eot"]["text"] == "<|eot|>"
    assert found["findings"] == []


def test_a_checkpoint_is_described_by_the_same_words(folder: Path) -> None:
    gguf, checkpoint = facts(folder / "tiny.gguf"), facts(folder / "Tiny")
    same = ("architecture", "name", "n_params_active", "shape", "tokenizer", "sampling")
    assert {key: gguf[key] for key in same} == {
        # rope_freqs is computed, not stored: 32 weights less, all active
        **{key: checkpoint[key] for key in same},
        "n_params_active": checkpoint["n_params_active"] + 32,
    }
    assert checkpoint["format"] == "checkpoint"
    assert checkpoint["bits_per_weight"] == 16
    assert checkpoint["rope"] == {
        "base": 500_000.0, "n_dims": 64, "scaling": "llama3", "factor": 16.0
    }  # fmt: skip
    assert "BF16" in run(folder / "Tiny").stdout


def test_split_files_are_one(folder: Path, tmp_path: Path) -> None:
    plan = convert.plan(folder / "Tiny", "Q4_K_M")
    report = convert.convert(plan, tmp_path / "m.gguf", split=convert.Split(max_tensors=20))
    whole, parts = facts(folder / "tiny.gguf"), facts(report.path)
    assert parts["files"] == [str(file) for file in report.files]
    assert parts["n_bytes"] == report.n_bytes
    for key in ("n_params", "groups", "shape", "type"):
        assert parts[key] == whole[key]
    done = run(report.files[1])
    assert done.exit_code != 0
    report.files[-1].unlink()
    assert run(report.path).exit_code != 0


def test_types_that_are_of_no_recipe(folder: Path, tmp_path: Path) -> None:
    options = convert.TypeOptions(tensor_types=(("attn_q", "q8_0"),))
    plan = convert.plan(folder / "Tiny", "Q4_K_M", options=options)
    path = convert.convert(plan, tmp_path / "mixed.gguf").path
    found = facts(path)
    assert found["unlike_recipe"] == {f"blk.{n}.attn_q.weight": "Q4_K" for n in range(4)}
    text = " ".join(run(path).stdout.split())
    assert (
        f"Q4_K_M, except for 4 of {len(plan.tensors)} tensors: blk.0.attn_q.weight, blk.1" in text
    )
    # A file that does not state its type is recognized by its tensors.
    silent = edited(folder / "tiny.gguf", tmp_path / "silent.gguf", general__file_type=None)
    assert (facts(silent)["type"], facts(silent)["type_is_stated"]) == ("Q4_K_M", False)


def test_what_is_wrong_is_told_and_is_exit_1(folder: Path, tmp_path: Path) -> None:
    path = edited(
        folder / "tiny.gguf",
        tmp_path / "odd.gguf",
        tokenizer__ggml__tokens=strings(["a"] * 352),
        tokenizer__ggml__pre=string("default"),
        tokenizer__ggml__merges=strings(["a b", "ab"]),
        tokenizer__ggml__eom_token_id=u32(10**6),
        tokenizer__chat_template=string("<|odd|>\x1b[31m"),
        llama4__rope__freq_base=f32(float("nan")),
        llama4__expert_used_count=u32(9),
        general__name=string("evil\x1b[2J"),
    )
    done = run(path)
    assert done.exit_code == 1
    text = " ".join(done.stdout.split())
    for message in (
        "error: the tokens 0 and 1 are both 'a'; convert it again",
        "its pre-tokenizer is default: text is split differently than in training",
        "error: 1 of 2 merges are not pairs",
        "the eom token is 1000000, but there are 352 tokens",
        "the chat template uses <|odd|>, which the vocabulary lacks",
        "error: rope.freq_base is nan",
        "error: 9 experts a token, but there are only 4",
    ):
        assert message in text
    assert "\x1b" not in done.stdout
    assert facts(path)["metadata"]["llama4.rope.freq_base"] == "nan"


def test_a_token_that_is_no_text_is_told(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "odd.gguf"
    path.write_bytes(
        (folder / "tiny.gguf").read_bytes().replace(b"<|eot|>", b"<|\xff\xfe\xff|>", 1)
    )
    done = run(path)
    assert done.exit_code == 0
    text = " ".join(done.stdout.split())
    assert "warning: tokenizer.ggml.tokens[" in text
    assert "] is not UTF-8: the file is damaged" in text


def test_stale_rope_and_pruned_layers(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "Stale", rope_scaling=None, num_hidden_layers=5)
    path = convert.convert(convert.plan(checkpoint, "Q8_0"), tmp_path / "stale.gguf").path
    messages = [finding["message"] for finding in facts(path)["findings"]]
    assert any("10,485,760 tokens, but no RoPE scaling" in message for message in messages)
    assert any("5 layers are not whole groups of 4" in message for message in messages)
    assert messages == [finding["message"] for finding in facts(checkpoint)["findings"]]


def test_other_architectures(tmp_path: Path) -> None:
    for kind in ("llama2", "qwen3moe"):
        checkpoint = write_decoder(tmp_path / kind, kind)
        path = convert.convert(convert.plan(checkpoint, "F16"), tmp_path / f"{kind}.gguf").path
        found = facts(path)
        assert found["type"] == "F16"
        assert found["n_params_active"] == convert.plan(checkpoint, "F16").n_params_active
        assert not [each for each in found["findings"] if each["level"] == "error"]


def test_published_models_from_headers_and_from_config_alone(tmp_path: Path) -> None:
    scout = facts(write_hollow_checkpoint(tmp_path / "Scout"))
    assert round(scout["n_params"] / 1e9, 1) == 107.8  # the language model's part of 109B
    assert round(scout["n_params_active"] / 1e9, 1) == 17.2
    maverick = facts(write_outline(tmp_path / "Maverick", "maverick"))
    assert round(maverick["n_params"] / 1e9, 1) == 400.7
    assert maverick["shape"]["n_moe_layers"] == 24
    assert any("the shards are absent" in each["message"] for each in maverick["findings"])


def test_what_is_no_model(l4: L4, folder: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.gguf"
    half.write_bytes((folder / "tiny.gguf").read_bytes()[:50_000])
    (tmp_path / "empty").mkdir()
    for model, message in (
        (half, "half.gguf: the file is damaged or not downloaded whole"),
        (tmp_path / "empty", "empty holds neither a checkpoint"),
        (tmp_path / "none.gguf", "none.gguf: no such file"),
        ("scuot", "did you mean scout?"),
        ("o/x", "o/x: no such directory, and the Hub's checkpoint is not on this machine"),
    ):
        error = run(model).exception
        assert isinstance(error, (L4Error, convert.ConvertError))
        assert message in str(error)
    done = l4("info", half)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
