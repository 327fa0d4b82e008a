"""Damaged and hostile checkpoints by seed: sound ones with one or two files made odd.

assert list(failures(tmp_path, range(100))) == []
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from checkpoints import write_checkpoint
from commands_here import run_here
from decoders import write_decoder
from odd_documents import damaged
from odd_json import NAMES, VALUES, broken, odd_json

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("convert", "{}", "--type", "Q8_0", "-o", "{}.gguf"),
    ("plan", "{}", "--ram", "64G@80", "--gpu", "none"),
    ("info", "{}"),
)
LFS = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4665f0a5bd5c9d8b12e8b0a4e1c11a5b5e5b7a5b6c2e9f5a2f6b6d7c8e9f0a1b\nsize 5000000\n"
)
PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>401</body></html>\n"
_INDEX = "model.safetensors.index.json"
_FILES = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", _INDEX,
    "tokenizer.model", "chat_template.jinja", "chat_template.json", "README.md",
)  # fmt: skip
_NUMBERS = (0, 1, 7, 8, 9, 100, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 100 << 20)
_DTYPES = (
    "f32", "bf16", "F4", "F8_E8M0", "C64", "", "\x1b[31m", "F64", "I8", "BOOL", "F8_E4M3", "U8",
    "x" * 10_000, None, 7, ["F32"], {"F32": 1}, True,
)  # fmt: skip
_BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
_CARDS = (
    "---\nlicense: [a, b\n---\n", "---\nlicense: {}\n---\n", "---\nbase_model: 3\n---\n",
    "---\nbase_model: [null, {}]\n---\n", "---\n- a\n---\n", "---\ntags: {a: 1}\n---\n", "---\n",
    f"---\n{_BOMB}license: *a9\n---\n", f"---\n{_BOMB}tags: *a9\n---\n", "---\n? [a]\n: b\n---\n",
    f"---\n{_BOMB}base_model: *a9\n---\n", f"---\n{_BOMB}language: *a9\n---\n",
    "---\nx: !!python/object/apply:os.system ['id']\n---\n",
    "---\na: &a [*a]\nlicense: *a\n---\n",
    "---\nlicense: &a [*a]\n---\n", "---\nmodel_name: 2020-01-01\n---\n",
    "---\nlicense: .nan\n---\n",
    "---\n" + "[" * 5000 + "\n---\n", "---\nlanguage: [1, 2]\nmodel_name: \"\\0\\e[31m\"\n---\n",
    "---\nmodel_creator: [a]\n---\n", "---\ndatasets: [{repo_url: 1}]\n---\n",
)  # fmt: skip


class Checkpoints:
    """Writes members into one folder, from sound checkpoints that it holds in memory."""

    def __init__(self, scratch: Path) -> None:
        small: dict[str, Any] = {"num_hidden_layers": 1}
        scout = {**small, "num_local_experts": 2}
        made = (
            write_checkpoint(scratch / "scout", **scout),
            write_checkpoint(scratch / "single", shards=1, multimodal=True, fused=False, **scout),
            write_decoder(scratch / "llama2", "llama2", **small),
            write_decoder(scratch / "llama3", "llama3", **small),
            write_decoder(scratch / "qwen3moe", "qwen3moe", shards=1, **small),
        )
        self._sound = [_contents(path) for path in made]
        self._folder = scratch / "members" / "model"

    def write(self, seed: int) -> Path:
        """Write the checkpoint with this seed, in place of the one before. Return its folder."""
        chance = random.Random(seed)
        folder = self._folder
        shutil.rmtree(folder.parent, ignore_errors=True)
        folder.mkdir(parents=True)
        files = dict(chance.choice(self._sound))
        for name, data in files.items():
            (folder / name).write_bytes(data)
        for _ in range(chance.choice((1, 1, 1, 2))):
            chance.choice(_DAMAGES)(chance, folder, files)
        return folder


def _contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _put(path: Path, data: bytes) -> None:
    """Write a file in place of what an earlier damage put there."""
    _remove(path)
    path.write_bytes(data)


def _shards(files: dict[str, bytes]) -> list[str]:
    return sorted(name for name in files if name.endswith(".safetensors"))


def _parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the data of a safetensors file."""
    start = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:start]), data[start:]


def _joined(header: bytes, data: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + data


# ------------------------------------------------------------------------------- the damages

_Files = dict[str, bytes]


def _header_value(chance: random.Random, folder: Path, files: _Files) -> None:
    """A header in which one entry is odd, or any value of the JSON."""
    shard = chance.choice(_shards(files))
    header, data = _parts(files[shard])
    if chance.random() < 0.4:
        _put(folder / shard, _joined(odd_json(header, chance), data))
        return
    header["__metadata__"] = chance.choice(({"format": "pt"}, *VALUES))
    name = chance.choice([name for name in header if name != "__metadata__"])
    entry = header[name]
    begin, end = entry["data_offsets"]
    kind = chance.choice(("dtype", "shape", "offsets", "name"))
    if kind == "dtype":
        entry["dtype"] = chance.choice(_DTYPES)
    elif kind == "shape":
        shape = entry["shape"]
        odd: tuple[Any, ...] = (
            [], [*shape, 1], [-n for n in shape], [2**32, 2**32], [2**62, 4, 0], [0, *shape],
            [float(n) for n in shape], [str(n) for n in shape], [True] * len(shape), shape[::-1],
            "256", 256, None, {"0": 1}, [2**63] * 9, [10**400], [1] * 100_000, [[n] for n in shape],
        )  # fmt: skip
        entry["shape"] = chance.choice(odd)
    elif kind == "offsets":
        odd = (
            [end, begin], [begin, end - 1], [begin + 2, end + 2], [0, end - begin], [-2, end],
            [begin, 2**63], [2**64, 2**64 + end - begin], [begin + 0.0, end], ["0", "8"], [begin],
            [begin, end, end], [], "08", None, {"a": 1, "b": 2}, [True, end], [10**400, 10**400],
            [begin + (1 << 40), end + (1 << 40)],
        )  # fmt: skip
        entry["data_offsets"] = chance.choice(odd)
    else:
        header[chance.choice(NAMES)] = header.pop(name) if chance.random() < 0.5 else entry
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    _put(folder / shard, _joined(text, data))


def _header_length(chance: random.Random, folder: Path, files: _Files) -> None:
    """A header whose stated length is another, or that is no JSON object."""
    shard = chance.choice(_shards(files))
    raw, (header, data) = files[shard], _parts(files[shard])
    text = json.dumps(header).encode()
    how = chance.random()
    if how < 0.3:
        number = chance.choice((*_NUMBERS, len(raw), len(raw) - 8, len(raw) - 7, len(text) - 1))
        raw = number.to_bytes(8, "little") + raw[8:]
    elif how < 0.5:
        raw = _joined(broken(chance, text), data)
    elif how < 0.6:
        raw = _joined(text + b" " * chance.choice((1, 7, 1 << 20)), data)
    elif how < 0.8:
        raw = raw[: chance.choice((0, 1, 7, 8, 9, len(text), len(raw) - 1, len(raw) // 2))]
    else:
        raw = damaged(chance, raw[: 8 + len(text)]) + data
    _put(folder / shard, raw)


def _index(chance: random.Random, folder: Path, files: _Files) -> None:
    """An index that names other shards, or is odd JSON."""
    names = _shards(files)
    index: dict[str, Any] = {
        "metadata": {"total_size": 1},
        "weight_map": {
            tensor: name
            for name in names
            for tensor in _parts(files[name])[0]
            if tensor != "__metadata__"
        },
    }
    if chance.random() < 0.4:
        _put(folder / _INDEX, odd_json(index, chance))
        return
    shards = (
        "missing.safetensors", "/etc/passwd", "../model/config.json",
        f"../{folder.name}/{names[0]}",
        "..", ".", "", _INDEX, "config.json", str(folder / names[0]), f"./{names[0]}", "loop",
        f"{names[0]}/", f"{names[0]}\0", "x" * 300, *VALUES,
    )  # fmt: skip
    shard = chance.choice(shards)
    if shard == "loop":
        _remove(folder / "loop")
        (folder / "loop").symlink_to("loop")
    changed = chance.choice((*index["weight_map"], "new.weight"))
    for tensor in list(index["weight_map"]) if chance.random() < 0.3 else [changed]:
        index["weight_map"][tensor] = shard
    text = json.dumps(index).encode("utf-8", "surrogatepass")
    _put(folder / _INDEX, text)


def _value_in_a_file(chance: random.Random, folder: Path, files: _Files) -> None:
    """A JSON file in which a value is odd."""
    name = chance.choice([name for name in files if name.endswith(".json") and name != _INDEX])
    _put(folder / name, odd_json(json.loads(files[name]), chance))


def _value_in_the_config(chance: random.Random, folder: Path, files: _Files) -> None:
    """A config whose keys, at the top of it or in the language model's part, are odd."""
    config = json.loads(files["config.json"])
    inner = config.get("text_config", config)
    more = ("quantization_config", "rope_scaling", "rope_parameters", "eos_token_id", "head_dim")
    for _ in range(chance.choice((1, 1, 2))):
        part = chance.choice((config, inner, inner))
        part[chance.choice((*part, *more))] = chance.choice(VALUES)
    text = json.dumps(config).encode("utf-8", "surrogatepass")
    _put(folder / "config.json", text)


def _other_file(chance: random.Random, folder: Path, files: _Files) -> None:
    """A file, any of them, that is another thing: a pointer, a page, a link, a directory …"""
    path = folder / chance.choice((*_FILES, *_shards(files)))
    data = files.get(path.name, b"{}")
    _remove(path)
    how = chance.choice(("other", "other", "broken", "damaged", "placed", "missing"))
    if how == "other":
        path.write_bytes(chance.choice((LFS, PAGE, b"\x1f\x8b\x08", b"PK\3\4", b"GGUF\3\0\0\0")))
    elif how == "broken":
        path.write_bytes(broken(chance, data))
    elif how == "damaged":
        path.write_bytes(damaged(chance, data))
    elif how == "placed":
        chance.choice(_PLACES)(path)


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


_PLACES: tuple[Callable[[Path], None], ...] = (
    lambda path: path.symlink_to(path.name),
    lambda path: path.symlink_to("/no/such/file"),
    lambda path: path.symlink_to("/dev/zero"),
    lambda path: path.symlink_to("."),
    lambda path: path.mkdir(),
    os.mkfifo,
    _huge,
)


def _sentencepiece(chance: random.Random, folder: Path, files: _Files) -> None:
    """A damaged tokenizer.model, and nothing beside it that would be read in its place."""
    data = files.get("tokenizer.model", b"\x0a\x05\x0a\x03abc")
    cut = data[: chance.choice((10, 200, len(data)))]
    _put(folder / "tokenizer.model", damaged(chance, cut))
    if chance.random() < 0.5:
        _remove(folder / "tokenizer.json")


def _card(chance: random.Random, folder: Path, files: _Files) -> None:
    """A model card with odd front matter."""
    card = chance.choice(_CARDS).encode()
    _put(folder / "README.md", damaged(chance, card) if chance.random() < 0.3 else card)


def _templates(chance: random.Random, folder: Path, files: _Files) -> None:
    """Chat templates of odd kinds, in each of the places."""
    odd = (b"", b"\xff\xfe", b"{% for", b"\0", b"x" * 100_000, b"{{ '\x1b[31m' }}", LFS, PAGE)
    where = chance.choice(("file", "folder", "settings", "processor"))
    if where == "file":
        _put(folder / "chat_template.jinja", chance.choice(odd))
    elif where == "folder":
        inside = folder / "additional_chat_templates"
        inside.mkdir(exist_ok=True)
        name = chance.choice(("a", "default", "..", "é"))
        _put(inside / f"{name}.jinja", chance.choice(odd))
    else:
        name = {"settings": "tokenizer_config.json", "processor": "chat_template.json"}[where]
        values = json.loads(files.get(name, b"{}"))
        entries = ({"name": "a", "template": "b"}, {"name": 1}, {"template": "x"}, *VALUES)
        values["chat_template"] = chance.choice((chance.choices(entries, k=2), *VALUES))
        _put(folder / name, json.dumps(values).encode("utf-8", "surrogatepass"))


_DAMAGES: tuple[Callable[[random.Random, Path, _Files], None], ...] = (
    _header_value, _header_value, _header_value, _header_length, _index, _index, _value_in_a_file,
    _value_in_a_file, _value_in_the_config, _value_in_the_config, _other_file, _other_file,
    _sentencepiece, _card, _templates,
)  # fmt: skip


def failures(scratch: Path, seeds: range) -> Iterator[str]:
    """Try the members with these seeds by every command; yield a line for each wrong outcome."""
    makers = Checkpoints(scratch)
    for seed in seeds:
        for wrong in wrong_with(makers.write(seed)):
            yield f"{seed}: {wrong}"


def wrong_with(folder: Path) -> Iterator[str]:
    """Try a checkpoint by every command; yield a line for each wrong outcome."""
    for command in COMMANDS:
        ended = run_here([part.replace("{}", str(folder)) for part in command])
        wrong = ended.wrong
        if ended.code and folder.with_name(f"{folder.name}.gguf").exists():
            wrong = "fails, but there is an output"
        if wrong is not None:
            yield f"l4 {command[0]}: {wrong}"
