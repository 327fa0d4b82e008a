"""Importance matrices: the bytes equal llama-quantize's, and what would abort it is refused."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from checkpoints import write_checkpoint
from marks import slow_but
from quantizer import Sums, make_sums, quantize, write_imatrix, write_legacy_imatrix

import convert
from convert import ConvertError, TypeOptions

TINY = {"num_local_experts": 2, "num_hidden_layers": 1}
QUICK = "Q4_K_M"
DOWN = "blk.0.ffn_down_exps.weight"


EVERY_WAY = ("Q8_0", "Q4_K_M", "Q6_K", "IQ4_XS", "IQ2_M", "Q2_K")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("imatrix") / "model", dtype="F32", **TINY)


@pytest.fixture(scope="module")
def base(checkpoint: Path) -> Path:
    out = checkpoint.with_name("base.gguf")
    convert.convert(convert.plan(checkpoint, "F32"), out)
    return out


@pytest.fixture(scope="module")
def sums(checkpoint: Path) -> Sums:
    return make_sums(convert.plan(checkpoint, "F32"))


@pytest.fixture(scope="module")
def imatrix(checkpoint: Path, sums: Sums) -> Path:
    return write_imatrix(checkpoint.with_name("imatrix.gguf"), sums)


def made(checkpoint: Path, ftype: str, imatrix: Path, **options: Any) -> bytes:
    out = checkpoint.with_name("ours.gguf")
    plan = convert.plan(checkpoint, ftype, options=TypeOptions(imatrix, **options))
    convert.convert(plan, out, overwrite=True)
    return out.read_bytes()


@pytest.mark.parametrize("ftype", slow_but(EVERY_WAY, convert.FTYPES))
def test_every_type_equals_two_steps(
    ftype: str, checkpoint: Path, base: Path, sums: Sums, imatrix: Path
) -> None:
    assert made(checkpoint, ftype, imatrix) == quantize(base, ftype, sums=sums, imatrix=imatrix)


@pytest.mark.slow
@pytest.mark.parametrize("width", [64, 48])  # neither is whole blocks of 256, 48 not even of 32
def test_odd_rows_equal_two_steps(width: int, tmp_path: Path) -> None:
    shapes = {"num_local_experts": 4, "num_hidden_layers": 2, "intermediate_size_mlp": 256}
    checkpoint = write_checkpoint(
        tmp_path / "model", kind="maverick", dtype="F32", intermediate_size=width,
        use_qk_norm=True, **shapes,
    )  # fmt: skip
    plan = convert.plan(checkpoint, "F32")
    base = convert.convert(plan, tmp_path / "base.gguf").path
    sums = make_sums(plan)
    imatrix = write_imatrix(tmp_path / "imatrix.gguf", sums)
    assert made(checkpoint, "IQ1_M", imatrix) == quantize(base, "IQ1_M", sums=sums, imatrix=imatrix)


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 3, "ram": 1}])
def test_tiles_and_threads_change_nothing(
    options: dict[str, int], checkpoint: Path, imatrix: Path, tmp_path: Path
) -> None:
    plan = convert.plan(checkpoint, "Q2_K_S", options=TypeOptions(imatrix))
    out = convert.convert(plan, tmp_path / "out.gguf", **options).path
    assert out.read_bytes() == made(checkpoint, "Q2_K_S", imatrix)


def test_the_legacy_format_equals_two_steps(
    checkpoint: Path, base: Path, sums: Sums, tmp_path: Path
) -> None:
    legacy = tmp_path / "imatrix.dat"
    read = write_legacy_imatrix(legacy, sums)
    assert made(checkpoint, QUICK, legacy) == quantize(base, QUICK, sums=read, imatrix=legacy)


@pytest.mark.parametrize("ftype", ["IQ1_S", "IQ2_M", "IQ3_XS", "Q2_K_S"])
def test_a_type_that_needs_one_says_so(ftype: str, checkpoint: Path) -> None:
    with pytest.raises(ConvertError, match=r"^blk\.0\.\S+ becomes \S+, which needs an importance"):
        convert.plan(checkpoint, ftype)


def test_a_tensor_it_has_nothing_on(checkpoint: Path, sums: Sums, tmp_path: Path) -> None:
    partial = {name: each for name, each in sums.items() if name != DOWN}
    path = write_imatrix(tmp_path / "partial.gguf", partial)
    with pytest.raises(ConvertError, match=rf"partial\.gguf: has no data on {DOWN}"):
        convert.plan(checkpoint, "IQ2_XXS", options=TypeOptions(path))
    plan = convert.plan(checkpoint, QUICK, options=TypeOptions(path))
    assert any(f"has no data on {DOWN}" in finding.message for finding in plan.findings)


def test_embeddings_that_ggml_would_abort_on(checkpoint: Path, imatrix: Path) -> None:
    # Here llama-quantize --pure IQ2_XXS fails an assertion, which ends the process.
    with pytest.raises(ConvertError, match=r"has no data on output\.weight"):
        convert.plan(checkpoint, "IQ2_XXS", options=TypeOptions(imatrix, pure=True))


def other(sums: Sums, values: Any, counts: Any = (1, 1)) -> Sums:
    return sums | {DOWN: (np.array(values, np.float32), np.array(counts, np.float32))}


@pytest.mark.parametrize(
    ("values", "counts", "message"),
    [
        (np.ones((2, 128)), (1, 1), "has 256 numbers and 2 counts, but the model's has 2 x 256"),
        (np.ones((3, 256)), (1, 1, 1), "has 768 numbers"),
        (np.full((2, 256), np.nan), (1, 1), "NaN, Inf"),
        (np.full((2, 256), -1), (1, 1), "negative or far too large"),
        (np.full((2, 256), 1e30), (1, 1), "negative or far too large"),
        (np.ones((2, 256)), (1, np.inf), "are invalid"),
        (np.ones((2, 256)), (1, -1), "are invalid"),
    ],
)
def test_damaged_importance_names_file_and_tensor(
    values: Any, counts: Any, message: str, checkpoint: Path, sums: Sums, tmp_path: Path
) -> None:
    path = write_imatrix(tmp_path / "bad.gguf", other(sums, values, counts))
    with pytest.raises(ConvertError, match=message) as caught:
        convert.plan(checkpoint, QUICK, options=TypeOptions(path))
    assert "bad.gguf" in str(caught.value)
    assert DOWN in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [None, b"", b"GGUF", b"\0" * 64, b"no imatrix at all", struct.pack("<iii", 1, -1, 5)],
)
def test_what_is_no_imatrix(content: bytes | None, checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.dat"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConvertError, match=r"x\.dat") as caught:
        convert.plan(checkpoint, QUICK, options=TypeOptions(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.1, 0.6, 0.99])
@pytest.mark.parametrize("suffix", ["gguf", "dat"])
def test_a_file_cut_short(
    suffix: str, share: float, checkpoint: Path, sums: Sums, tmp_path: Path
) -> None:
    path = tmp_path / f"cut.{suffix}"
    write_imatrix(path, sums) if suffix == "gguf" else write_legacy_imatrix(path, sums)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ConvertError, match=r"cut\.\w+"):
        convert.plan(checkpoint, QUICK, options=TypeOptions(path))


def test_a_model_given_as_imatrix(checkpoint: Path, base: Path) -> None:
    with pytest.raises(ConvertError, match="so it is not an imatrix"):
        convert.plan(checkpoint, QUICK, options=TypeOptions(base))


def test_a_file_that_shrinks_meanwhile(checkpoint: Path, sums: Sums, tmp_path: Path) -> None:
    path = write_imatrix(tmp_path / "imatrix.gguf", sums)
    plan = convert.plan(checkpoint, QUICK, options=TypeOptions(path))
    path.write_bytes(path.read_bytes()[:4096])
    with pytest.raises(ConvertError, match=r"imatrix\.gguf: ends within"):
        convert.convert(plan, tmp_path / "out.gguf")
    assert not list(tmp_path.glob("out*"))


def test_cold_experts_are_named(checkpoint: Path, imatrix: Path) -> None:
    plan = convert.plan(checkpoint, QUICK, options=TypeOptions(imatrix))
    lines = [finding.message for finding in plan.findings if "cold" in finding.message]
    assert "experts saw fewer than 32 tokens" in lines[0]
    assert lines[1:] == ["blk.0: cold experts 1 in ffn_down_exps, ffn_gate_exps, ffn_up_exps"]


def test_cold_experts_get_a_safer_type(checkpoint: Path, imatrix: Path) -> None:
    def types(ftype: str, **options: Any) -> dict[str, str]:
        plan = convert.plan(checkpoint, ftype, options=TypeOptions(imatrix, **options))
        return {tensor.name: tensor.qtype for tensor in plan.tensors}

    safer = types("IQ2_XXS", cold_experts="q6_k")
    assert {name for name in safer if safer[name] != types("IQ2_XXS")[name]} == {
        f"blk.0.ffn_{kind}_exps.weight" for kind in ("down", "gate", "up")
    }
    assert safer[DOWN] == "Q6_K"
    assert types("Q8_0", cold_experts="Q6_K")[DOWN] == "Q8_0"  # never a smaller type
    chosen = types("IQ2_XXS", cold_experts="Q6_K", tensor_types=(("ffn_down", "Q4_K"),))
    assert chosen[DOWN] == "Q4_K"  # a type given for the tensor by name takes precedence


def test_cold_experts_cannot_be_told_without_counts(
    checkpoint: Path, sums: Sums, tmp_path: Path
) -> None:
    write_legacy_imatrix(tmp_path / "imatrix.dat", sums)
    for imatrix in (None, tmp_path / "imatrix.dat"):
        with pytest.raises(ConvertError, match="--cold-experts needs"):
            convert.plan(checkpoint, QUICK, options=TypeOptions(imatrix, cold_experts="Q6_K"))


@pytest.mark.parametrize("ftype", ["IQ3_S", "IQ2_XXS"])
def test_weights_too_large_are_refused_where_ggml_aborts(
    ftype: str, imatrix: Path, tmp_path: Path
) -> None:
    from checkpoints import read_weights, write_shards

    checkpoint = write_checkpoint(tmp_path / "model", dtype="F32", **TINY)
    weights = read_weights(checkpoint)
    name = "model.layers.0.feed_forward.experts.down_proj"
    weights[name] = weights[name] * np.float32(1e18)
    for file in checkpoint.glob("*.safetensors*"):
        file.unlink()
    write_shards(checkpoint, weights, dtype="F32", shards=1)
    plan = convert.plan(checkpoint, ftype, options=TypeOptions(imatrix))
    with pytest.raises(ConvertError, match="weights too large for"):
        convert.convert(plan, tmp_path / "out.gguf")


def test_the_output_says_what_it_was_made_with(checkpoint: Path, imatrix: Path) -> None:
    plan = convert.plan(checkpoint, QUICK, options=TypeOptions(imatrix))
    assert plan.fields["quantize.imatrix.file"].value == str(imatrix)
    assert plan.fields["quantize.imatrix.dataset"].value == "calibration.txt"
    assert plan.fields["quantize.imatrix.entries_count"].value > 5
    assert plan.fields["quantize.imatrix.chunks_count"].value == 7
    fields = gguf.GGUFReader(imatrix).fields
    assert "imatrix.chunk_size" in fields
