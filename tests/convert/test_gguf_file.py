"""GGUF headers: good ones are read back, impossible ones are refused with one line."""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_checkpoint
from conftest import L4
from decoders import write_decoder
from gguf_fuzz import damaged, edited, read_header, write_hollow

import convert
from convert import ConvertError
from convert.gguf.array import GGUFArray
from convert.gguf.fields import (
    Field,
    TensorInfo,
    encode_header,
    f32,
    i32s,
    string,
    strings,
    u16,
    u32,
)
from convert.gguf.file import read_gguf
from convert.gguf.model import read_model
from convert.gguf.vetting import vet
from l4cli.engine.llamacpp import LlamaModel
from l4cli.errors import ModelLoadError

NORM = TensorInfo("output_norm.weight", (32,), 0, 0)
MATRIX = TensorInfo("output.weight", (32, 4), 8, 128)  # Q8_0, 136 bytes
SPLIT = {"split.no": u16(0), "split.count": u16(2)}


def header(*tensors: TensorInfo, **fields: Field) -> bytes:
    return encode_header({k.replace("__", "."): v for k, v in fields.items()}, tensors)


def read_bytes(tmp_path: Path, data: bytes, n_data: int = 1024) -> Any:
    return read_gguf(write_hollow(tmp_path / "x.gguf", data, n_data))


def test_a_header_is_read_back(tmp_path: Path) -> None:
    words = ["a", "", "ü🦙", "x" * 300]
    file = read_bytes(tmp_path, header(NORM, MATRIX, a=u32(7), w=strings(words), n=i32s([1, -2])))
    assert file.fields["a"] == 7
    assert list(file.fields["w"]) == file.fields["w"] == words
    assert (file.fields["w"][2], file.fields["n"][1], len(file.fields["n"])) == ("ü🦙", -2, 2)
    assert (file.kinds["a"], file.kinds["w"], file.fields["w"].kind) == ("u32", "array", "string")
    assert file.tensors["output.weight"].n_bytes == 136
    assert file.tensors["output.weight"].qtype == "Q8_0"


def test_a_vocabulary_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    words = [f"{n:0{n % 40}}" for n in range(60_000)]
    file = read_bytes(tmp_path, header(NORM, w=strings(words), a=u32(7)))
    assert list(file.fields["w"]) == words
    assert file.fields["a"] == 7


def put(at: int, code: str, number: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        struct.pack_into(f"<{code}", changed, at, number)
        return bytes(changed)

    return change


def behind(word: bytes, skip: int, code: str, number: int) -> Callable[[bytes], bytes]:
    """Change the number that lies `skip` bytes after the end of `word`."""
    return lambda data: put(data.index(word) + len(word) + skip, code, number)(data)


def of(data: bytes) -> Callable[[bytes], bytes]:
    return lambda _: data


# name -> (damage to a good header, a part of the message)
DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (of(b""), "is empty; fetch it again"),
    "no magic": (of(b"GGML" + bytes(60)), "is not a GGUF file, nor another kind"),
    "big-endian": (put(4, "I", 3 << 24), "for big-endian machines"),
    "version 1": (put(4, "I", 1), "of version 1, not 2 or 3; convert the model again"),
    "version 9": (put(4, "I", 9), "of version 9"),
    "10^12 tensors": (put(8, "Q", 10**12), "announces 1,000,000,000,000 tensors"),
    "2^63 fields": (put(16, "Q", 1 << 63), "announces 9,223,372,036,854,775,808 fields"),
    "a key without end": (put(24, "Q", 1 << 62), "the name of field 0 is 4,611,686,018"),
    "a value without end": (behind(b"name", 4, "Q", 1 << 62), "ends within name"),
    "an unknown kind": (behind(b"name", 0, "I", 77), "name is of the unknown type 77"),
    "2^60 numbers": (behind(b"types", 8, "Q", 1 << 60), "ends within types"),
    "2^60 strings": (behind(b"words", 8, "Q", 1 << 60), "words announces 1,152,921,504,606"),
    "a string too long": (behind(b"words", 16, "Q", 1 << 40), "ends within words"),
    "an array of arrays": (behind(b"words", 4, "I", 9), "words is an array of arrays"),
    "an array of nothing": (behind(b"words", 4, "I", 99), "words is of the unknown type 99"),
    "no dimensions": (behind(b"output.weight", 0, "I", 0), "output.weight has 0 dimensions"),
    "5 dimensions": (behind(b"output.weight", 0, "I", 5), "output.weight has 5 dimensions"),
    "an empty row": (behind(b"output.weight", 4, "Q", 0), r"output.weight has the shape \[0, 4\]"),
    "too large": (behind(b"output.weight", 12, "Q", 1 << 62), "output.weight has the shape"),
    "2^55 bytes": (behind(b"output.weight", 12, "Q", 1 << 50), "ends within output.weight"),
    "half a block": (behind(b"output.weight", 4, "Q", 33), "rows of 33, not whole blocks of Q8_0"),
    "an unknown qtype": (behind(b"output.weight", 20, "I", 5), "is of the unknown type 5"),
    "misaligned": (behind(b"output.weight", 24, "Q", 129), "at 129, not at a multiple of 32"),
    "beyond the file": (behind(b"output.weight", 24, "Q", 1 << 40), "ends within output.weight"),
    "overlapping": (behind(b"output.weight", 24, "Q", 96), "output.weight overlaps"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_header_is_one_line(name: str, tmp_path: Path) -> None:
    damage, message = DAMAGE[name]
    good = header(NORM, MATRIX, name=string("x"), words=strings(["a", "b"]), types=i32s([1, 2]))
    read_bytes(tmp_path, good)
    with pytest.raises(ConvertError, match=message) as caught:
        read_bytes(tmp_path, damage(good), n_data=0 if name == "empty" else 1024)
    assert "\n" not in str(caught.value)
    assert "x.gguf: " in str(caught.value)


def test_a_header_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    good = header(NORM, types=i32s([1, 2]))
    lying = behind(b"types", 8, "Q", 1 << 28)(good)  # a GiB of numbers, in a file as large as that
    with pytest.raises(ConvertError, match="its header is longer than 64 MiB"):
        read_bytes(tmp_path, lying, n_data=2 << 30)


def test_names_are_there_once_and_are_text(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=r"tensor output_norm\.weight appears twice"):
        read_bytes(tmp_path, header(NORM, TensorInfo(NORM.name, (32,), 0, 128)))
    with pytest.raises(ConvertError, match="field aa appears twice"):
        read_bytes(tmp_path, header(NORM, aa=u32(1), bb=u32(2)).replace(b"bb", b"aa"))
    with pytest.raises(ConvertError, match="the name of field 0 is 0 bytes long"):
        read_bytes(tmp_path, encode_header({"": u32(1)}, [NORM]))
    with pytest.raises(ConvertError, match="name of tensor 0 is 64 bytes long, not 1 to 63"):
        read_bytes(tmp_path, header(TensorInfo("x" * 64, (32,), 0, 0)))
    with pytest.raises(ConvertError, match=r"name of field 0 is 'a\\x1b\[31m'"):
        read_bytes(tmp_path, encode_header({"a\x1b[31m": u32(1)}, [NORM]))
    with pytest.raises(ConvertError, match="aa is not UTF-8"):
        read_bytes(tmp_path, header(NORM, aa=string("zz")).replace(b"zz", b"\xff\xff"))
    words = read_bytes(tmp_path, header(NORM, aa=strings(["y", "zz"])).replace(b"zz", b"\xff\xff"))
    with pytest.raises(ConvertError, match=r"x\.gguf: aa\[1\] is not UTF-8"):
        list(words.fields["aa"])


@pytest.mark.parametrize("alignment", [u32(0), u32(48), f32(32.0), string("32")])
def test_alignments_that_are_none(alignment: Field, tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=r"general\.alignment is .* not a power of two"):
        read_bytes(tmp_path, header(NORM, general__alignment=alignment))


def test_what_is_no_file_of_its_own(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ConvertError, match=r"pipe\.gguf: is a pipe"):
        read_gguf(tmp_path / "pipe.gguf")
    for path in (tmp_path, tmp_path / "absent.gguf"):
        with pytest.raises(ConvertError, match=str(path)):
            read_gguf(path)


# Split files.


@pytest.fixture
def split(tmp_path: Path, small_gguf: Path) -> list[Path]:
    """A model in at least three split files."""
    checkpoint = small_gguf.with_name("checkpoint")
    plan = convert.plan(checkpoint, "Q8_0")
    n = -(-len(plan.tensors) // 3)
    report = convert.convert(plan, tmp_path / "m.gguf", split=convert.Split(max_tensors=n))
    return list(report.files)


@pytest.fixture(scope="module")
def small_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    write_checkpoint(folder / "checkpoint", num_local_experts=2)
    return convert.convert(convert.plan(folder / "checkpoint", "Q8_0"), folder / "small.gguf").path


def test_a_split_is_one_model(split: list[Path], small_gguf: Path) -> None:
    whole, parts = read_model(small_gguf), read_model(split[0])
    assert parts.files == tuple(split)
    assert list(parts.tensors) == list(whole.tensors)
    assert {tensor.path for tensor in parts.tensors.values()} == set(split)
    assert parts.n_bytes == sum(file.stat().st_size for file in split)


def test_splits_that_are_none(split: list[Path], small_gguf: Path, tmp_path: Path) -> None:
    first, second, third = split[:3]
    with pytest.raises(ConvertError, match=r"file 2 of 3 .* give m-00001-of-00003\.gguf"):
        read_model(second)
    kept = second.read_bytes()
    # The second file is a copy of the first. Following the files' own numbers would never end.
    shutil.copy(first, second)
    with pytest.raises(ConvertError, match=r"say that it is file 1 of 3, its name says 2 of 3"):
        read_model(first)
    shutil.copy(small_gguf, second)
    with pytest.raises(ConvertError, match=r"has no split\.no, so it is not a split file"):
        read_model(first)
    second.write_bytes(kept.replace(b"split.count\x02\0\0\0\x03", b"split.count\x02\0\0\0\x04"))
    with pytest.raises(ConvertError, match="file 2 of 4, its name says 2 of 3"):
        read_model(first)
    second.write_bytes(kept)
    other = third.read_bytes()
    third.write_bytes(kept.replace(b"split.no\x02\0\0\0\x01", b"split.no\x02\0\0\0\x02"))
    with pytest.raises(ConvertError, match=r"and so does m-00002-of-00003\.gguf"):
        read_model(first)
    third.write_bytes(other[: len(other) // 2])
    with pytest.raises(ConvertError, match=r"m-00003-of-00003\.gguf: the file is damaged or not"):
        read_model(first)
    third.unlink()
    with pytest.raises(ConvertError, match=r"00003-of-00003\.gguf: missing, one of 3 split files"):
        read_model(first)
    with pytest.raises(ConvertError, match="first of 3 split files under another name"):
        read_model(first.rename(tmp_path / "renamed.gguf"))
    kind = encode_header({**SPLIT, "split.count": u32(2)}, [NORM])
    with pytest.raises(ConvertError, match=r"split\.count is of type u32, not u16"):
        read_model(write_hollow(tmp_path / "k-00001-of-00002.gguf", kind, 512))


# Files on which llama.cpp would abort the process.


TOKENS, TYPES = "tokenizer__ggml__tokens", "tokenizer__ggml__token_type"
DEADLY: dict[str, tuple[dict[str, Field | None], str]] = {
    "no layers": ({"llama4__block_count": u32(0)}, r"llama4\.block_count is 0, not 1 to 512"),
    "too many layers": ({"llama4__block_count": u32(10**6)}, "1000000, not 1 to 512 layers"),
    "no global layer": ({"llama4__block_count": u32(3)}, "too few for a layer of global"),
    "too many experts": ({"llama4__expert_count": u32(5000)}, "more than the 1024 that llama"),
    "experts used": ({"llama4__expert_used_count": u32(3)}, "expert_used_count is 3, of 2"),
    "none used": ({"llama4__expert_used_count": u32(0)}, "expert_used_count is 0, of 2"),
    "groups": ({"llama4__expert_group_count": u32(7)}, "expert_group_count is 7, with 0 used"),
    "RoPE scaling": ({"llama4__rope__scaling__type": string("su")}, "'su', not one of none"),
    "RoPE width": ({"llama4__rope__dimension_count": u32(62)}, "62, but its heads are 64 wide"),
    "value width": ({"llama4__attention__value_length": u32(32)}, "but its keys are 64 wide"),
    "KV heads": ({"llama4__attention__head_count_kv": u32(3)}, "3, which does not divide 4"),
    "epsilon": (
        {"llama4__attention__layer_norm_rms_epsilon": f32(-1.0)},
        "-1.0, not a finite number",
    ),
    "counts as text": ({"llama4__block_count": string("4")}, "'4', which is not a count"),
    "no architecture": ({"general__architecture": None}, "does not state its general.arch"),
    "no vocabulary": ({"tokenizer__ggml__model": string("none")}, "has no vocabulary"),
    "no tokens": ({TOKENS: None}, "tokens is missing or empty"),
    "tokens as numbers": ({TOKENS: i32s([1, 2])}, "tokens is an array of i32, not of string"),
    "types too few": ({TYPES: i32s([1, 2, 3])}, "token_type has 3 items for 352 tokens"),
    "no merges": ({"tokenizer__ggml__merges": None}, "merges is missing"),
    "twins": ({TOKENS: strings(["a"] * 352)}, "the tokens 0 and 1 are both 'a'"),
    "a twin up to a NUL": (
        {TOKENS: strings(["a", "a\0b", *(f"t{n}" for n in range(350))])},
        "0 and 1 are both 'a'",
    ),
    "a twin of an empty one": (
        {TOKENS: strings(["[EMPTY_1]", "", *(f"t{n}" for n in range(350))])},
        r"0 and 1 are both '\[EMPTY_1\]'",
    ),
}


@pytest.mark.parametrize("name", DEADLY)
def test_what_llama_cpp_would_die_of_is_one_line(
    name: str, small_gguf: Path, tmp_path: Path
) -> None:
    changes, message = DEADLY[name]
    path = edited(small_gguf, tmp_path / "edited.gguf", **changes)
    with pytest.raises(ModelLoadError, match=message) as caught:
        LlamaModel(path)
    assert "\n" not in str(caught.value)


def test_what_is_merely_odd_is_loaded(small_gguf: Path, tmp_path: Path) -> None:
    """Editing a file does not break it, and vetting does not refuse files that run."""
    changes: dict[str, Field] = {
        "llama4__context_length": u32(0),
        "llama4__rope__freq_base": f32(1.0),
        "tokenizer__ggml__padding_token_id": u32(10**6),
        "general__author": string("nobody"),
    }
    path = edited(small_gguf, tmp_path / "edited.gguf", **changes)
    vet(path)
    LlamaModel(path).close()


def test_vectors_must_be_f32(tmp_path: Path, small_gguf: Path) -> None:
    raw = bytearray(read_header(small_gguf))
    at = raw.index(b"output_norm.weight") + len(b"output_norm.weight") + 12
    struct.pack_into("<I", raw, at, 1)
    path = write_hollow(tmp_path / "f16.gguf", bytes(raw), small_gguf.stat().st_size)
    with pytest.raises(ConvertError, match=r"output_norm\.weight is F16, but vectors must be F32"):
        vet(path)


def test_sentencepiece_needs_its_bytes(tmp_path: Path) -> None:
    checkpoint = write_decoder(tmp_path / "llama2", "llama2")
    path = convert.convert(convert.plan(checkpoint, "F32"), tmp_path / "llama2.gguf").path
    vet(path)
    raw = path.read_bytes().replace(b"<0x0A>", b"<0xAA ")
    path.write_bytes(raw)
    with pytest.raises(ConvertError, match="has no token <0x0A>"):
        vet(path)


def test_the_commands_refuse_a_damaged_file(l4: L4, small_gguf: Path, tmp_path: Path) -> None:
    path = edited(small_gguf, tmp_path / "edited.gguf", **{TOKENS: strings(["a"] * 352)})
    done = l4("run", "-m", path, stdin='{"prompt": "hello"}')
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"l4: {path}: the tokens 0 and 1 are both 'a'; convert it again\n"


def test_damage_of_all_kinds_is_read_or_refused(small_gguf: Path, tmp_path: Path) -> None:
    """300 damaged headers; `python -m benchmarks.sweep gguf-damage` tries thousands."""
    stream = damaged(read_header(small_gguf), random.Random(0))
    n_bytes, refusals, n_read = small_gguf.stat().st_size, [], 0
    for _ in range(300):
        path = write_hollow(tmp_path / "damaged.gguf", next(stream), n_bytes)
        try:
            for value in read_gguf(path).fields.values():
                if isinstance(value, GGUFArray):
                    list(value)
            convert.describe(path)
            vet(path)
            n_read += 1
        except ConvertError as error:
            refusals.append(str(error))
    assert n_read > 10
    assert len(refusals) > 100
    for refusal in refusals:
        assert "damaged.gguf" in refusal
        assert refusal.isprintable()
