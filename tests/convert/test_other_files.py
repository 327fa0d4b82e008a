"""Files that are something else than a language model are named, with where they go."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from conftest import L4
from gguf_fuzz import write_hollow

import convert
from convert import ConvertError
from convert.gguf.fields import Field, TensorInfo, boolean, encode_header, f32, string, u32
from convert.gguf.kind import refuse_other_purposes
from convert.gguf.model import read_model
from convert.gguf.vetting import vet

SMALL = {"num_local_experts": 2, "num_hidden_layers": 1}


def gguf(path: Path, tensors: tuple[str, ...] = ("token_embd.weight",), **fields: Field) -> Path:
    """A GGUF with these fields (`__` for a dot), and tensors of 32 zeros."""
    named = {key.replace("__", "."): field for key, field in fields.items()}
    infos = [TensorInfo(name, (32,), 0, 128 * at) for at, name in enumerate(tensors)]
    return write_hollow(path, encode_header(named, infos), 128 * len(tensors))


def model(architecture: str, **fields: Field) -> dict[str, Field]:
    return {"general__architecture": string(architecture), **fields}


MMPROJ = model("clip", general__type=string("mmproj"), clip__has_vision_encoder=boolean(True))
OF_SOUND = model("clip", clip__has_audio_encoder=boolean(True))
IMATRIX = model("llama", general__type=string("imatrix"), imatrix__chunk_count=u32(3))
LORA = model("llama", general__type=string("adapter"), adapter__type=string("lora"))
CONTROL = model("controlvector", controlvector__layer_count=u32(3))
KINDS: dict[str, tuple[dict[str, Field], tuple[str, ...]]] = {
    "projector": (MMPROJ, ("a projector for images", "language model itself")),
    "projector of sound": (OF_SOUND, ("a projector for sound",)),
    "importance matrix": (IMATRIX, ("an importance matrix", "l4 convert --imatrix")),
    "adapter": (LORA, ("an adapter (LoRA)", "merged")),
    "control vector": (CONTROL, ("a control vector",)),
    "bert": (model("bert"), ("an encoder (bert)", "writes no text")),
    "t5": (model("t5"), ("an encoder with a decoder",)),
    "t5 encoder": (model("t5encoder"), ("an encoder (t5encoder)",)),
    "embedding": (model("qwen3", qwen3__pooling_type=u32(3)), ("an embedding model",)),
    "reranker": (model("qwen3", qwen3__pooling_type=u32(4)), ("a reranker",)),
    "both ways": (model("lfm2", lfm2__attention__causal=boolean(False)), ("an encoder (lfm2",)),
    "diffusion": (model("llada"), ("a diffusion model",)),
    "draft": (model("eagle3"), ("a draft model",)),
    "speech": (model("wavtokenizer-dec"), ("a model of speech",)),
}


EMBEDDERS = ("bert", "embedding", "both ways")  # these can be quantized, and served with --embed


@pytest.mark.parametrize("kind", KINDS)
def test_a_gguf_of_another_purpose_is_named(kind: str, tmp_path: Path) -> None:
    fields, parts = KINDS[kind]
    path = gguf(tmp_path / "x.gguf", **fields)

    with pytest.raises(ConvertError) as caught:
        vet(path)
    with pytest.raises(ConvertError) as to_quantize:
        convert.plan_quantize(path, ["Q8_0"], force=True)
    description = convert.describe(path)

    message = str(caught.value)
    if kind in EMBEDDERS:
        assert "is Q8_0 already" in str(to_quantize.value)
        assert "l4 serve --embed" in message
        assert vet_as_embedder(path) is None
    else:
        assert str(to_quantize.value) == message
        assert vet_as_embedder(path) == message
    assert message.startswith(f"{path}: is ")
    assert "\n" not in message
    for part in parts:
        assert part in message
        assert part in description.findings[0].message


def vet_as_embedder(path: Path) -> str | None:
    """What is said of the GGUF where a model that makes embeddings is wanted."""
    model = read_model(path)
    try:
        refuse_other_purposes(path, model.fields, model.tensors, embedders=True)
    except ConvertError as error:
        return str(error)
    return None


def test_older_adapters_are_known_by_their_tensors(tmp_path: Path) -> None:
    path = gguf(
        tmp_path / "x.gguf",
        ("blk.0.attn_q.weight.lora_a", "blk.0.attn_q.weight.lora_b"),
        general__architecture=string("llama"),
    )

    with pytest.raises(ConvertError, match="is an adapter"):
        vet(path)


def test_a_model_quantized_with_an_importance_matrix_stays_a_model(tiny_gguf: Path) -> None:
    from gguf_fuzz import edited

    path = edited(
        tiny_gguf,
        tiny_gguf.with_name("imatrix.gguf"),
        quantize__imatrix__file=string("x.imatrix"),
        quantize__imatrix__entries_count=u32(3),
        llama4__pooling_type=u32(0),
        llama4__attention__causal=boolean(True),
        general__sampling__temp=f32(0.5),
    )

    assert vet(path).tensors


def _zip(names: tuple[str, ...]) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for name in names:
            archive.writestr(name, b"x" * 2000)
    return raw.getvalue()


HEADER = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 135\n"
FOREIGN: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "LFS": (LFS, ("a Git LFS pointer", "git lfs pull")),
    "page": (b"\n<!DOCTYPE html><html><title>404</title>", ("a web page", "l4 pull")),
    "XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code>', ("an XML document",)),
    "answer": (b"Entry not found", ("a server's answer (Entry not found)", "l4 pull")),
    "JSON answer": (b'{"error": "Repository not found"}', ("a server's answer", "not found")),
    "JSON": (b'{"architectures": ["LlamaForCausalLM"]}', ("a JSON file", "l4 convert")),
    "zip": (_zip(("model.gguf",)), ("a zip archive", "unpack")),
    "torch": (_zip(("archive/data.pkl", "archive/version")), ("by PyTorch", ".safetensors")),
    "pickle": (pickle.dumps({"a": 1}, protocol=2), ("a pickle", ".safetensors")),
    "safetensors": (
        len(HEADER).to_bytes(8, "little") + HEADER + bytes(4),
        ("a safetensors file", "l4 convert"),
    ),
    "gzip": (b"\x1f\x8b\x08\0", ("a gzip archive",)),
    "GGML": (b"tjgg\x03\0\0\0" + bytes(60), ("the GGML format", "l4 convert")),
    "program": (b"\x7fELF\x02\x01", ("a program",)),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_of_another_format_is_named(kind: str, tmp_path: Path) -> None:
    content, parts = FOREIGN[kind]
    path = tmp_path / "model.gguf"
    path.write_bytes(content)

    with pytest.raises(ConvertError) as given_as_model:
        vet(path)
    with pytest.raises(ConvertError) as given_as_source:
        convert.plan(path, "Q8_0")

    assert str(given_as_model.value).startswith(f"{path}: is not a GGUF file but ")
    for caught in (given_as_model, given_as_source):
        assert "\n" not in str(caught.value)
        for part in parts:
            assert part in str(caught.value)


def test_a_gguf_is_no_source(tmp_path: Path) -> None:
    path = gguf(tmp_path / "x.gguf", **model("llama"))

    with pytest.raises(ConvertError, match="is already a GGUF: run it with -m"):
        convert.plan(path, "Q8_0")


DIRECTORIES = {
    "adapter_config.json": "is an adapter",
    "model_index.json": "diffusers",
    "params.json": "its author's own format",
    "pytorch_model.bin": "pickled by PyTorch",
    "model-Q8_0.gguf": "holds a GGUF",
    "snapshots/0123/config.json": "give .*snapshots/0123",
    "sub/config.json": "do you mean .*/sub",
    "other.txt": "holds neither a checkpoint",
}


@pytest.mark.parametrize("name", DIRECTORIES)
def test_a_directory_of_something_else_is_named(name: str, tmp_path: Path) -> None:
    file = tmp_path / "src" / name
    file.parent.mkdir(parents=True)
    file.write_text("{}")

    with pytest.raises(ConvertError, match=DIRECTORIES[name]):
        convert.plan(tmp_path / "src", "Q8_0")


def test_pickled_weights_with_a_config_are_named(tmp_path: Path) -> None:
    src = write_checkpoint(tmp_path / "model", **SMALL)
    for file in src.glob("model*.safetensors*"):
        file.unlink()
    (src / "pytorch_model.bin").write_bytes(b"PK\3\4")

    with pytest.raises(ConvertError, match=r"pickled by PyTorch \(pytorch_model.bin\)"):
        convert.plan(src, "Q8_0")


def test_pointers_in_place_of_a_checkpoints_files_are_named(tmp_path: Path) -> None:
    for name in ("config.json", "model-00001-of-00002.safetensors"):
        src = write_checkpoint(tmp_path / name / "model", **SMALL)
        (src / name).write_bytes(LFS)

        with pytest.raises(ConvertError, match=f"{name}: is .*a Git LFS pointer"):
            convert.plan(src, "Q8_0")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "projector", "t5"])
def test_every_command_names_them_before_it_loads(kind: str, tmp_path: Path, l4: L4) -> None:
    path = gguf(tmp_path / "x.gguf", **KINDS[kind][0])
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a"}\n')
    commands = (
        ("run", "-m", path, rows),
        ("run", "-m", path, rows, "--dry-run"),
        ("run", "-m", path, rows, "--ctx", "16k", "--gpu-layers", "auto"),
        ("chat", "-m", path, "-p", "a"),
        ("ask", "-m", path, rows, "-q", "a"),
        ("bench", path),
        ("plan", path),
    )
    for command in commands:
        done = l4(*map(str, command))
        assert (done.returncode, done.stdout) == (2, ""), (command, done.stderr)
        assert KINDS[kind][1][0] in done.stderr.splitlines()[-1], command
