"""Verification: a good file passes, and every kind of damage is reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
from checkpoints import write_checkpoint
from marks import slow_but
from quantizer import make_sums, write_imatrix

import convert
from convert import ConvertError, Plan

SMALL = {"num_local_experts": 2, "num_hidden_layers": 1}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("verify") / "model", **SMALL)


def made(plan: Plan, out: Path) -> Path:
    convert.convert(plan, out, overwrite=True)
    return out


@pytest.fixture(scope="module")
def imatrix(checkpoint: Path) -> Path:
    sums = make_sums(convert.plan(checkpoint, "F32"))
    return write_imatrix(checkpoint.with_name("imatrix.gguf"), sums)


@pytest.mark.parametrize("ftype", slow_but(("Q8_0", "Q4_K_M", "Q2_K", "IQ4_XS"), convert.FTYPES))
def test_every_type_keeps_its_bound(
    ftype: str, checkpoint: Path, imatrix: Path, tmp_path: Path
) -> None:
    needs_imatrix = ftype.startswith(("IQ1", "IQ2", "IQ3_X")) or ftype == "Q2_K_S"
    options = convert.TypeOptions(imatrix if needs_imatrix else None)
    plan = convert.plan(checkpoint, ftype, options=options)
    seen: list[convert.Progress] = []
    result = convert.verify(plan, made(plan, tmp_path / "out.gguf"), progress=seen.append)
    assert result.is_fine, result
    assert [tensor.name for tensor in result.tensors] == [tensor.name for tensor in plan.tensors]
    assert seen[-1].bytes_done == seen[-1].bytes_total


def test_a_damaged_expert_is_named(checkpoint: Path, tmp_path: Path) -> None:
    plan = convert.plan(checkpoint, "Q8_0")
    out = made(plan, tmp_path / "out.gguf")
    (tensor,) = (t for t in gguf.GGUFReader(out).tensors if t.name == "blk.0.ffn_up_exps.weight")
    half = int(tensor.n_bytes) // 2
    with out.open("rb+") as file:
        file.seek(int(tensor.data_offset))
        first = file.read(half)
        file.write(first)  # the second expert is now a copy of the first
    result = convert.verify(plan, out)
    (bad,) = (tensor for tensor in result.tensors if not tensor.is_fine)
    assert (bad.name, bad.matrix) == ("blk.0.ffn_up_exps.weight", 1)
    assert bad.error > 1


def swap(old: bytes, new: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes().replace(old, new, 1))


@pytest.mark.parametrize(
    ("damage", "difference"),
    [
        (swap(b"<|eot|>", b"<|EOT|>"), "metadata tokenizer.ggml.tokens differs"),
        (swap(b"llama4.expert_count", b"llama4.expert_kount"), "llama4.expert_count is missing"),
        (swap(b"blk.0.attn_q.weight", b"blk.0.attn_p.weight"), "tensor blk.0.attn_q.weight is mis"),
    ],
)
def test_other_damage_is_told(
    damage: Callable[[Path], object], difference: str, checkpoint: Path, tmp_path: Path
) -> None:
    plan = convert.plan(checkpoint, "Q8_0")
    out = made(plan, tmp_path / "out.gguf")
    damage(out)
    result = convert.verify(plan, out)
    assert not result.is_fine
    assert any(difference in found for found in result.differences)


def test_another_type_is_told(checkpoint: Path, tmp_path: Path) -> None:
    out = made(convert.plan(checkpoint, "Q8_0"), tmp_path / "out.gguf")
    result = convert.verify(convert.plan(checkpoint, "Q4_K_M"), out)
    assert any("Q8_0" in found and "not Q4_K" in found for found in result.differences)


@pytest.mark.parametrize("content", [None, b"", b"GGUF", b"no such format at all"])
def test_what_is_no_gguf(content: bytes | None, checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConvertError, match=r"x\.gguf"):
        convert.verify(convert.plan(checkpoint, "Q8_0"), path)
