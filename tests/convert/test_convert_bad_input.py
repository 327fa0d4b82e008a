"""Bad input raises one line that names the file and the tensor, and writes no output."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import read_weights, write_checkpoint, write_safetensors, write_shards

import convert
from convert import ConvertError

SMALL = {"num_local_experts": 2, "num_hidden_layers": 1}
SHARD = "model-00001-of-00002.safetensors"
INDEX = "model.safetensors.index.json"

Damage = Callable[[Path], object]


def attempt(checkpoint: Path, ftype: str = "Q8_0") -> str:
    """Try to convert, and return the one-line error. No file may be left behind."""
    out = checkpoint.with_name("out.gguf")
    out.write_text("what was there before")
    with pytest.raises(ConvertError) as caught:
        convert.convert(convert.plan(checkpoint, ftype), out, overwrite=True)
    assert out.read_text() == "what was there before"
    assert not list(out.parent.glob("*.part"))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model", **SMALL)


def edit_json(name: str, change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(path: Path) -> None:
        value = json.loads((path / name).read_text())
        change(value)
        (path / name).write_text(json.dumps(value))

    return damage


def edit_header(change: Callable[[dict[str, Any]], object]) -> Damage:
    """Rewrite the first shard's header; keep its data."""

    def damage(path: Path) -> None:
        raw = (path / SHARD).read_bytes()
        end = 8 + int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8:end])
        change(header)
        text = json.dumps(header).encode()
        (path / SHARD).write_bytes(len(text).to_bytes(8, "little") + text + raw[end:])

    return damage


def edit_weights(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(path: Path) -> None:
        weights = read_weights(path)
        change(weights)
        for file in path.glob("model*.safetensors*"):
            file.unlink()
        write_shards(path, weights, dtype="F32")

    return damage


def truncate(path: Path) -> None:
    with (path / SHARD).open("rb+") as file:
        file.truncate(file.seek(0, 2) - 10)


Q = "model.layers.0.self_attn.q_proj.weight"
NORM = "model.norm.weight"
DOWN = "model.layers.0.feed_forward.experts.down_proj"


def _set(array: Any, value: float) -> None:
    array.reshape(-1)[-1] = value


# name -> (damage, parts of the message)
TABLE: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "no config": (lambda p: (p / "config.json").unlink(), ("config.json", "missing")),
    "broken config": (lambda p: (p / "config.json").write_text("{"), ("config.json", "JSON")),
    "config is a list": (lambda p: (p / "config.json").write_text("[]"), ("not a JSON object",)),
    "no architecture": (
        edit_json("config.json", lambda c: c.pop("architectures")),
        ("config.json", "architectures"),
    ),
    "unsupported architecture": (
        edit_json("config.json", lambda c: c.update(architectures=["GPT2LMHeadModel"])),
        ("GPT2LMHeadModel", "Llama4ForCausalLM"),
    ),
    "missing hyperparameter": (
        edit_json("config.json", lambda c: c.pop("hidden_size")),
        ("config.json", "`hidden_size` is missing"),
    ),
    "nonsense hyperparameter": (
        edit_json("config.json", lambda c: c.update(num_hidden_layers="four")),
        ("`num_hidden_layers` is 'four'",),
    ),
    "quantization method": (
        edit_json("config.json", lambda c: c.update(quantization_config={"quant_method": "gptq"})),
        ("config.json", "gptq", "BF16"),
    ),
    "broken model card": (
        lambda p: (p / "README.md").write_text("---\nname: [\n---\n"),
        ("README.md", "YAML"),
    ),
    "no tokenizer": (lambda p: (p / "tokenizer.json").unlink(), ("tokenizer.json", "missing")),
    "missing shard": (lambda p: (p / SHARD).unlink(), (SHARD, "missing")),
    "truncated shard": (truncate, (SHARD, "truncated")),
    "empty shard": (lambda p: (p / SHARD).write_bytes(b""), (SHARD, "truncated")),
    "not safetensors": (lambda p: (p / SHARD).write_bytes(b"<html>" * 9), (SHARD, "not a safe")),
    "header not JSON": (
        lambda p: (p / SHARD).write_bytes((5).to_bytes(8, "little") + b"x" * 99),
        (SHARD, "not JSON"),
    ),
    "no index": (lambda p: (p / INDEX).unlink(), ("shards without", INDEX)),
    "nothing at all": (
        lambda p: [file.unlink() for file in p.glob("model*")],
        ("no model.safetensors",),
    ),
    "index without map": (edit_json(INDEX, lambda i: i.clear()), (INDEX, "weight_map")),
    "index leaves the directory": (
        edit_json(INDEX, lambda i: i["weight_map"].update(x="../x.safetensors")),
        (INDEX, "outside"),
    ),
    "index names an absent tensor": (
        edit_json(INDEX, lambda i: i["weight_map"].update(ghost=SHARD)),
        (SHARD, "ghost"),
    ),
    "index forgets a tensor": (
        edit_json(INDEX, lambda i: i["weight_map"].pop(Q)),
        (Q, "does not name"),
    ),
    "header lies about a shape": (
        edit_header(lambda h: h["model.embed_tokens.weight"].update(shape=[352, 255])),
        (SHARD, "model.embed_tokens.weight", "bytes"),
    ),
    "header lies about an offset": (
        edit_header(lambda h: h["lm_head.weight"].update(data_offsets=[0, 352 * 256 * 2])),
        (SHARD, "overlaps"),
    ),
    "header with negative offsets": (
        edit_header(lambda h: h["lm_head.weight"].update(data_offsets=[-2, 1])),
        (SHARD, "lm_head.weight", "malformed"),
    ),
    "unknown dtype": (
        edit_header(lambda h: h["lm_head.weight"].update(dtype="F4")),
        (SHARD, "lm_head.weight", "F4"),
    ),
    "unknown tensor": (
        edit_weights(lambda w: w.update({"model.layers.0.extra.weight": w[NORM]})),
        ("unknown tensor model.layers.0.extra.weight",),
    ),
    "missing tensor": (edit_weights(lambda w: w.pop(Q)), (Q, "has no tensor")),
    "missing expert": (edit_weights(lambda w: w.pop(DOWN)), (DOWN, "has no tensor")),
    "wrong shape": (
        edit_weights(lambda w: w.update({Q: w[Q][:, :128]})),
        (Q, "[256, 128]", "[256, 256]"),
    ),
    "NaN": (edit_weights(lambda w: _set(w[Q], np.nan)), (Q, "NaN or Inf")),
    "Inf in an expert": (edit_weights(lambda w: _set(w[DOWN], -np.inf)), (DOWN, "NaN or Inf")),
    "NaN in a norm": (edit_weights(lambda w: _set(w[NORM], np.nan)), (NORM, "NaN or Inf")),
}


@pytest.mark.parametrize("name", TABLE)
def test_damaged_checkpoints(name: str, checkpoint: Path) -> None:
    damage, parts = TABLE[name]
    damage(checkpoint)
    message = attempt(checkpoint)
    for part in parts:
        assert part in message


def test_integer_weights_are_refused(checkpoint: Path) -> None:
    weights = read_weights(checkpoint)
    (checkpoint / INDEX).unlink()
    write_safetensors(checkpoint / "model.safetensors", weights, dtype="F32")
    raw = (checkpoint / "model.safetensors").read_bytes().replace(b'"F32"', b'"I32"')
    (checkpoint / "model.safetensors").write_bytes(raw)
    assert "stored as I32" in attempt(checkpoint)


def test_weights_too_large_for_the_type(checkpoint: Path) -> None:
    edit_weights(lambda weights: _set(weights[Q], 1e9))(checkpoint)
    message = attempt(checkpoint, "F16")
    assert Q in message
    assert "too large for F16" in message


def test_large_but_finite_weights_are_no_error(checkpoint: Path) -> None:
    edit_weights(lambda weights: weights[Q].fill(3e38))(checkpoint)
    convert.convert(convert.plan(checkpoint, "F32"), checkpoint.with_name("out.gguf"))


def test_a_shard_cut_short_after_planning(checkpoint: Path) -> None:
    plan = convert.plan(checkpoint, "Q8_0")
    truncate(checkpoint)
    with pytest.raises(ConvertError, match=f"{SHARD}: ended within"):
        convert.convert(plan, checkpoint.with_name("out.gguf"))
    assert not list(checkpoint.parent.glob("out*"))


def test_a_shard_gone_after_planning(checkpoint: Path) -> None:
    plan = convert.plan(checkpoint, "Q8_0")
    (checkpoint / SHARD).unlink()
    with pytest.raises(ConvertError, match=SHARD):
        convert.convert(plan, checkpoint.with_name("out.gguf"))


@pytest.mark.parametrize("what", ["missing", "file"])
def test_the_source_is_not_a_directory(what: str, tmp_path: Path) -> None:
    source = tmp_path / "model.gguf"
    if what == "file":
        source.touch()
    with pytest.raises(ConvertError, match=r"model\.gguf(: no| is not a directory)"):
        convert.plan(source, "Q8_0")
