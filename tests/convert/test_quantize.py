"""Quantizing a GGUF gives llama.cpp's bytes, keeps the metadata, and refuses what does harm."""

from __future__ import annotations

import struct
from math import prod
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from checkpoints import write_checkpoint
from decoders import KINDS, write_decoder
from marks import slow_but
from quantizer import make_sums, picked_types, quantize, write_imatrix

import convert
from convert import ConvertError, Split, TypeOptions
from convert.gguf.fields import Field, TensorInfo, encode_header, f32, string, u32
from convert.gguf.file import read_gguf
from convert.gguf.qtypes import QTYPES
from convert.versions import version_of

SMALL = {"num_local_experts": 2, "num_hidden_layers": 4}
SOURCES = ("F32", "F16", "BF16", "Q8_0")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("quantize") / "model", dtype="F32", **SMALL)


@pytest.fixture(scope="module")
def imatrix(checkpoint: Path) -> Path:
    sums = make_sums(convert.plan(checkpoint, "F32"))
    return write_imatrix(checkpoint.with_name("imatrix.gguf"), sums)


def source(checkpoint: Path, ftype: str, imatrix: Path | None = None) -> Path:
    """The GGUF of that type that `l4 convert` makes; made once."""
    path = checkpoint.with_name(f"source-{ftype}.gguf")
    if not path.exists():
        plan = convert.plan(checkpoint, ftype, options=TypeOptions(imatrix=imatrix))
        convert.convert(plan, path)
    return path


def quantized(path: Path, ftype: str, out: Path, **options: Any) -> bytes:
    (plan,) = convert.plan_quantize(path, [ftype], **options)
    convert.convert(plan, out)
    return out.read_bytes()


@pytest.mark.parametrize("stored", SOURCES)
@pytest.mark.parametrize("ftype", slow_but(("Q4_K_M", "Q5_0"), convert.FTYPES))
def test_the_bytes_are_llama_cpps(
    stored: str, ftype: str, checkpoint: Path, imatrix: Path, tmp_path: Path
) -> None:
    if stored == ftype:
        pytest.skip("nothing to do")
    base = source(checkpoint, stored)
    ours = quantized(base, ftype, tmp_path / "ours.gguf", options=TypeOptions(imatrix=imatrix))
    sums = make_sums(convert.plan(checkpoint, "F32"))
    assert ours == quantize(base, ftype, sums=sums, imatrix=imatrix, requantize=True)


@pytest.mark.parametrize("kind", ["llama3", "mixtral", "qwen2", "maverick"])
def test_the_bytes_are_llama_cpps_for_other_models(kind: str, tmp_path: Path) -> None:
    if kind in KINDS:
        checkpoint = write_decoder(tmp_path / "model", kind)
    else:
        checkpoint = write_checkpoint(tmp_path / "model", kind=kind)
    base = source(checkpoint, "BF16")
    assert quantized(base, "Q4_K_M", tmp_path / "ours.gguf") == quantize(base, "Q4_K_M")


@pytest.mark.parametrize(
    "stored", slow_but(("Q4_K_M", "IQ3_M"), [t for t in convert.FTYPES if t not in SOURCES])
)
def test_every_type_is_read_as_llama_cpp_reads_it(
    stored: str, checkpoint: Path, imatrix: Path, tmp_path: Path
) -> None:
    base = source(checkpoint, stored, imatrix)
    ours = quantized(base, "F32", tmp_path / "ours.gguf", requantize=True)
    assert ours == quantize(base, "F32", requantize=True)


def test_options_are_llama_quantizes(checkpoint: Path, tmp_path: Path) -> None:
    base = source(checkpoint, "F16")
    options: dict[str, Any] = {
        "tensor_types": (("attn_v", "Q8_0"),),
        "output_tensor_type": "Q5_K",
        "token_embedding_type": "Q4_0",
    }
    ours = quantized(base, "Q3_K_M", tmp_path / "ours.gguf", options=TypeOptions(**options))
    assert ours == quantize(base, "Q3_K_M", **options)


def test_a_tensor_that_has_its_type_already_is_copied(checkpoint: Path, tmp_path: Path) -> None:
    base = source(checkpoint, "Q4_K_M")
    out = tmp_path / "out.gguf"
    quantized(base, "Q4_K_S", out, requantize=True)
    before, after = ({t.name: t for t in gguf.GGUFReader(path).tensors} for path in (base, out))
    same = [name for name in before if before[name].tensor_type == after[name].tensor_type]
    assert any(before[name].tensor_type.name == "Q4_K" for name in same)
    assert all((before[name].data == after[name].data).all() for name in same)


# Other architectures: (name, metadata, shapes of a block's tensors, shapes of the others).
_MATRIX = (256, 256)
_PLAIN = {f"ffn_{kind}": _MATRIX for kind in ("up", "down")} | {"attn_output": _MATRIX}
_FUSED = {"attn_qkv": (256, 768), **_PLAIN}
_APART = {f"attn_{kind}": _MATRIX for kind in "qkv"} | _PLAIN | {"ffn_gate": _MATRIX}
_ENDS = {"token_embd": (256, 512), "output": (256, 512)}
_NORM = "attention.layer_norm_epsilon"
_RMS = "attention.layer_norm_rms_epsilon"
OTHERS: dict[str, tuple[int, str, dict[str, Any], dict[str, Any]]] = {
    "falcon": (32, _NORM, _FUSED, _ENDS),
    "gpt2": (12, _NORM, _FUSED, {"token_embd": (256, 512), "position_embd": (256, 512)}),
    "phi3": (32, _RMS, _FUSED, _ENDS),
    "olmo": (80, _NORM, _APART, _ENDS),
    "gemma2": (26, _RMS, _APART, {"token_embd": (256, 512)}),
    "rwkv7": (
        12,
        _NORM,
        {"time_mix_w1": _MATRIX, "time_mix_key": _MATRIX, "channel_mix_key": _MATRIX},
        _ENDS,
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_architectures_that_convert_does_not_know(name: str, tmp_path: Path) -> None:
    path = write_hollow(tmp_path / "hollow.gguf", name, *OTHERS[name])
    for ftype in ("Q8_0", "Q4_K_M", "Q4_K_S", "Q3_K_M", "Q3_K_L", "Q2_K", "IQ4_XS", "TQ2_0"):
        (plan,) = convert.plan_quantize(path, [ftype], force=True)
        ours = {tensor.name: tensor.qtype for tensor in plan.tensors}
        assert ours == picked_types(path, ftype), ftype


def write_hollow(
    path: Path,
    architecture: str,
    n_layers: int,
    norm: str,
    block: dict[str, tuple[int, ...]],
    others: dict[str, tuple[int, ...]],
) -> Path:
    """Write a header, and a hole in place of F32 weights."""
    numbers = {
        "block_count": n_layers,
        "context_length": 512,
        "embedding_length": 256,
        "feed_forward_length": 256,
        "attention.head_count": 8,
        "attention.head_count_kv": 1,
        "vocab_size": 512,
        "attention.sliding_window": 128,
        "wkv.head_size": 64,
        "attention.decay_lora_rank": 8,
        "attention.iclr_lora_rank": 8,
        "attention.value_residual_mix_lora_rank": 8,
        "attention.gate_lora_rank": 8,
        "token_shift_count": 2,
    }
    fields: dict[str, Field] = {"general.architecture": string(architecture)}
    fields |= {f"{architecture}.{key}": u32(value) for key, value in numbers.items()}
    fields[f"{architecture}.{norm}"] = f32(1e-5)
    shapes = {f"{name}.weight": shape for name, shape in others.items()} | {
        f"blk.{layer}.{name}.weight": shape
        for layer in range(n_layers)
        for name, shape in block.items()
    }
    return write_gguf(path, fields, shapes)


def write_gguf(path: Path, fields: dict[str, Field], shapes: dict[str, tuple[int, ...]]) -> Path:
    infos, offset = [], 0
    for name, shape in shapes.items():
        infos.append(TensorInfo(name, shape, QTYPES["F32"].id, offset))
        offset += 4 * prod(shape)
    header = encode_header(fields, infos)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + offset)
    return path


def test_metadata_stay_as_they_are(checkpoint: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd.gguf"
    before = gguf_with_odd_fields(source(checkpoint, "F16"), odd)
    out = tmp_path / "out.gguf"
    quantized(odd, "Q8_0", out)
    raw = out.read_bytes()
    for field in before:
        assert raw.count(field) == 1
    fields = read_gguf(out).fields
    assert fields["general.file_type"] == 7
    assert fields["l4.version"] == version_of("l4")
    base = read_gguf(source(checkpoint, "F16")).fields
    for key in base.keys() - {"general.file_type"}:
        assert fields[key] == base[key], key


def gguf_with_odd_fields(base: Path, out: Path) -> list[bytes]:
    """Write `base` with fields of every type at its end. Return the fields' bytes."""
    values: list[tuple[int, bytes]] = [
        (0, b"\xff"), (1, b"\x80"), (2, b"\xff\xff"), (3, b"\0\x80"), (5, b"\0\0\0\x80"),
        (6, struct.pack("<f", float("inf"))), (7, b"\1"), (8, struct.pack("<Q", 0)),
        (10, b"\xff" * 8), (11, b"\0" * 7 + b"\x80"), (12, struct.pack("<d", 1e300)),
        (9, struct.pack("<IQ", 8, 2) + 2 * (struct.pack("<Q", 2) + b"\xff\xfe")),  # not UTF-8
        (9, struct.pack("<IQ", 12, 0)),
        (9, struct.pack("<IQ", 7, 3) + b"\1\0\1"),
    ]  # fmt: skip
    fields = [
        struct.pack("<Q", 6) + f"odd.{n:02}".encode() + struct.pack("<I", kind) + raw
        for n, (kind, raw) in enumerate(values)
    ]
    raw = base.read_bytes()
    n_tensors, n_fields = struct.unpack_from("<QQ", raw, 8)
    header = read_gguf(base)
    infos = min(raw.find(struct.pack("<Q", len(n)) + n.encode()) for n in header.tensors)
    counts = struct.pack("<QQ", n_tensors, n_fields + len(fields))
    start = raw[:8] + counts + raw[24:infos] + b"".join(fields) + raw[infos : header.n_header]
    data = min(tensor.offset for tensor in header.tensors.values())
    out.write_bytes(start + bytes(-len(start) % 32) + raw[data:])
    return fields


def test_split_files_are_read_as_one(checkpoint: Path, tmp_path: Path) -> None:
    whole = quantized(source(checkpoint, "F16"), "Q4_K_M", tmp_path / "whole.gguf")
    split = convert.convert(
        convert.plan(checkpoint, "F16"), tmp_path / "base.gguf", split=Split(max_tensors=9)
    )
    assert len(split.files) > 2
    assert quantized(split.path, "Q4_K_M", tmp_path / "out.gguf") == whole
    (plan,) = convert.plan_quantize(split.path, ["Q4_K_M"])
    for file in split.files:
        with pytest.raises(ConvertError, match=r"is (a file|the GGUF) that is read"):
            convert.convert(plan, file, overwrite=True)


def test_an_output_may_be_split(checkpoint: Path, tmp_path: Path) -> None:
    (plan,) = convert.plan_quantize(source(checkpoint, "F16"), ["Q8_0"])
    report = convert.convert(plan, tmp_path / "out.gguf", split=Split(max_tensors=9))
    assert len(report.files) > 2
    assert convert.describe(report.path).recognized.ftype == "Q8_0"


def test_another_alignment_becomes_the_usual_one(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "in.gguf", "gpt2")
    writer.add_custom_alignment(64)
    writer.add_block_count(1)
    weights = np.random.RandomState(0).standard_normal((8, 32)).astype(np.float32)
    writer.add_tensor("blk.0.ffn_up.weight", weights)
    writer.add_tensor("blk.0.ffn_down.weight", weights[:3])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    quantized(tmp_path / "in.gguf", "Q8_0", tmp_path / "out.gguf", force=True)
    written = {t.name: t for t in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    raw = written["blk.0.ffn_up.weight"]
    assert np.abs(gguf.dequantize(raw.data, raw.tensor_type) - weights).max() < 0.02


def test_the_same_type_is_nothing_to_do(checkpoint: Path) -> None:
    for ftype in ("F16", "Q4_K_M"):
        with pytest.raises(ConvertError, match=f"is {ftype} already, so there is nothing to be"):
            convert.plan_quantize(source(checkpoint, ftype), [ftype])


def test_q8_0_is_quantized_again_with_a_warning(checkpoint: Path) -> None:
    (plan,) = convert.plan_quantize(source(checkpoint, "Q8_0"), ["Q4_K_M"])
    assert [finding.level for finding in plan.findings][-1] == "warning"
    assert "(Q8_0) and" in plan.findings[-1].message
    assert "a little worse" in plan.findings[-1].message
    (plan,) = convert.plan_quantize(source(checkpoint, "F16"), ["Q4_K_M"])
    assert not any("quantized already" in finding.message for finding in plan.findings)


@pytest.mark.parametrize("ftype", ["Q4_K_S", "Q8_0", "F16"])
def test_lower_types_are_quantized_again_only_on_demand(ftype: str, checkpoint: Path) -> None:
    base = source(checkpoint, "Q4_K_M")
    with pytest.raises(ConvertError, match=r"\(Q\d_K\).* quantized already.*--requantize"):
        convert.plan_quantize(base, [ftype])
    (plan,) = convert.plan_quantize(base, [ftype], requantize=True)
    assert "quantized already" in plan.findings[-1].message


@pytest.mark.parametrize("stored", ["F16", "Q8_0"])
@pytest.mark.parametrize("ftype", ["Q4_0", "copied"])
def test_nan_in_the_source_is_named_and_leaves_nothing(
    stored: str, ftype: str, checkpoint: Path, tmp_path: Path
) -> None:
    """Also in tensors that are only copied."""
    path = tmp_path / "in.gguf"
    path.write_bytes(source(checkpoint, stored).read_bytes())
    with path.open("rb+") as file:
        file.seek(read_gguf(path).tensors["blk.1.attn_q.weight"].offset)
        file.write(b"\xff\x7f")  # a half float that is NaN: a weight, or the scale of a block
    options = TypeOptions()
    if ftype == "copied":
        options, ftype = TypeOptions(tensor_types=(("attn_q", stored),)), "Q4_0"
    (plan,) = convert.plan_quantize(path, [ftype], options=options)
    with pytest.raises(ConvertError, match=r"in\.gguf: blk\.1\.attn_q\.weight: holds NaN"):
        convert.convert(plan, tmp_path / "out.gguf")
    assert [left.name for left in tmp_path.iterdir()] == ["in.gguf"]


def test_it_is_verified_against_the_gguf(checkpoint: Path, tmp_path: Path) -> None:
    (plan,) = convert.plan_quantize(source(checkpoint, "Q8_0"), ["Q4_K_M"])
    out = convert.convert(plan, tmp_path / "out.gguf").path
    assert convert.verify(plan, out).is_fine
    with out.open("rb+") as file:
        file.seek(-40_000, 2)
        file.write(bytes(40_000))
    assert not convert.verify(plan, out).is_fine
    other = source(checkpoint, "F16")
    assert any("is F16" in each for each in convert.verify(plan, other).differences)


def test_sizes_are_those_of_the_files(checkpoint: Path) -> None:
    base = source(checkpoint, "F16")
    sizes = {size.ftype: size for size in convert.quantize_sizes(base)}
    for ftype in ("Q8_0", "Q4_K_M"):
        (plan,) = convert.plan_quantize(base, [ftype])
        assert sizes[ftype].n_bytes == plan.n_bytes
    assert sizes["F16"].n_bytes == base.stat().st_size
    assert sizes["IQ2_XXS"].lacks_imatrix
