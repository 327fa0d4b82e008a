"""Models that are broken on purpose: `find_oddities` names what is broken, and only that."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoders import write_decoder
from gguf import GGUFReader
from marks import slow_but

import convert
from l4cli.demo import checkpoint_dir


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demo model in several types, made in one pass."""
    folder = tmp_path_factory.mktemp("oddities")
    types = ["BF16", "Q8_0", "Q4_K_M", "Q2_K", "IQ4_XS"]
    plans = convert.plan_all(checkpoint_dir(), types)
    paths = {plan.ftype: folder / f"demo-{plan.ftype}.gguf" for plan in plans}
    convert.convert_all([(plan, paths[plan.ftype]) for plan in plans])
    return paths


def changed(source: Path, target: Path, change: Callable[[Any], None]) -> Path:
    """A copy of a GGUF, changed in place through gguf's reader."""
    shutil.copy(source, target)
    reader = GGUFReader(target, "r+")
    change(reader)
    del reader
    return target


def tensor(reader: Any, name: str) -> Any:
    return next(one for one in reader.tensors if one.name == name).data


@pytest.mark.parametrize("ftype", ["Q8_0", "Q4_K_M", "Q2_K", "IQ4_XS", "BF16"])
@pytest.mark.parametrize("base", slow_but(["BF16"], ["BF16", "Q8_0"]))
def test_a_sound_quantization_has_nothing_odd(demo: dict[str, Path], ftype: str, base: str) -> None:
    assert convert.find_oddities(demo[ftype], demo[base]) == ()


def zero(reader: Any) -> None:
    tensor(reader, "blk.3.attn_output.weight")[:] = 0


def swap_experts(reader: Any) -> None:
    data = tensor(reader, "blk.3.ffn_down_exps.weight")
    data[[0, 1]] = data[[1, 0]].copy()


def reverse_experts(reader: Any) -> None:
    data = tensor(reader, "blk.1.ffn_up_exps.weight")
    data[:] = np.roll(data, 1, axis=0).copy()


def zero_expert(reader: Any) -> None:
    tensor(reader, "blk.1.ffn_gate_exps.weight")[1] = 0


def other_layer(reader: Any) -> None:
    tensor(reader, "blk.1.attn_q.weight")[:] = tensor(reader, "blk.2.attn_q.weight")


def damage_rows(reader: Any) -> None:
    data = tensor(reader, "blk.0.attn_output.weight")
    data[5] = data[20]


def scale(reader: Any) -> None:
    data = tensor(reader, "output_norm.weight")
    data[:] = data * 2


def nan(reader: Any) -> None:
    tensor(reader, "blk.2.attn_norm.weight")[3] = np.nan


@pytest.mark.parametrize(
    ("change", "name", "layer", "what"),
    [
        (zero, "blk.3.attn_output.weight", 3, "is all zero"),
        (swap_experts, "blk.3.ffn_down_exps.weight", 3, "has exchanged experts: 0 and 1"),
        (reverse_experts, "blk.1.ffn_up_exps.weight", 1, "has its experts in another order: 0 is"),
        (zero_expert, "blk.1.ffn_gate_exps.weight", 1, "is all zero in expert 1"),
        (other_layer, "blk.1.attn_q.weight", 1, "has the weights of blk.2.attn_q.weight"),
        (damage_rows, "blk.0.attn_output.weight", 0, "is wrong in 1 of 256 rows, from row 5 on ("),
        (scale, "output_norm.weight", None, "is 2 times the reference's"),
        (nan, "blk.2.attn_norm.weight", 2, "has NaN or infinite weights"),
    ],
)
def test_what_is_broken_is_named(
    demo: dict[str, Path], tmp_path: Path, change: Callable[[Any], None], name: str,
    layer: int | None, what: str,
) -> None:  # fmt: skip
    broken = changed(demo["Q8_0"], tmp_path / "broken.gguf", change)
    (found,) = convert.find_oddities(broken, demo["BF16"])
    assert (found.name, found.layer) == (name, layer)
    assert found.what.startswith(what)


def test_it_is_found_across_types_and_in_a_sample(demo: dict[str, Path], tmp_path: Path) -> None:
    broken = changed(demo["Q4_K_M"], tmp_path / "broken.gguf", zero)
    calls: list[int] = []
    found = convert.find_oddities(
        broken, demo["Q8_0"], most_weights=1000, progress=lambda made: calls.append(made.bytes_done)
    )
    assert [one.name for one in found] == ["blk.3.attn_output.weight"]
    assert calls == sorted(calls) != []


def test_a_wrong_base_of_rope_and_another_vocabulary_are_named(
    demo: dict[str, Path], tmp_path: Path
) -> None:
    def change(reader: Any) -> None:
        reader.get_field("llama4.rope.freq_base").parts[-1][0] = 12345
        reader.get_field("tokenizer.ggml.token_type").parts[-1][0] = 6

    broken = changed(demo["Q8_0"], tmp_path / "broken.gguf", change)
    found = {one.name: one.what for one in convert.find_oddities(broken, demo["Q8_0"])}
    assert found["llama4.rope.freq_base"].startswith("is 12345, the reference has ")
    assert found["tokenizer.ggml.token_type"].startswith("differs from the reference's in 1 entr")
    assert len(found) == 2


def test_rows_in_the_order_of_the_other_rope_are_recognized(tmp_path: Path) -> None:
    checkpoint = write_decoder(tmp_path / "llama", "llama2")
    good = tmp_path / "good.gguf"
    convert.convert(convert.plan(checkpoint, "F16"), good)

    def change(reader: Any) -> None:
        data = tensor(reader, "blk.0.attn_q.weight")
        heads = int(reader.get_field("llama.attention.head_count").parts[-1][0])
        size = len(data) // heads
        halves = data.reshape(heads, size // 2, 2, -1).swapaxes(1, 2)
        data[:] = halves.reshape(data.shape).copy()

    broken = changed(good, tmp_path / "broken.gguf", change)
    (found,) = convert.find_oddities(broken, good)
    assert found.name == "blk.0.attn_q.weight"
    assert "the other kind of RoPE" in found.what


def test_another_architecture_is_all_that_is_said(demo: dict[str, Path], tmp_path: Path) -> None:
    checkpoint = write_decoder(tmp_path / "llama", "llama2")
    other = tmp_path / "other.gguf"
    convert.convert(convert.plan(checkpoint, "F16"), other)
    (found,) = convert.find_oddities(other, demo["Q8_0"])
    assert found.name == "general.architecture"
    assert found.what == "is 'llama', the reference has 'llama4'"
