"""Damaged and hostile checkpoints through the commands that read them: one line, and no harm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from commands_here import run_here
from damage import seeds
from odd_checkpoints import LFS, PAGE, Checkpoints, failures
from odd_json import NAMES

import convert
from convert import ConvertError

SMALL = {"num_local_experts": 2, "num_hidden_layers": 1}


def test_odd_checkpoints_end_in_one_line(tmp_path: Path) -> None:
    assert list(failures(tmp_path, seeds(25))) == []


@pytest.mark.slow
def test_more_odd_checkpoints(tmp_path: Path) -> None:
    assert list(failures(tmp_path, range(1000, 2500))) == []


def test_members_are_the_same_every_time(tmp_path: Path) -> None:
    makers = Checkpoints(tmp_path)

    def contents(seed: int) -> dict[str, bytes]:
        folder = makers.write(seed)
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    assert contents(4) == contents(4)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model", shards=1, **SMALL)


def refused(checkpoint: Path) -> str:
    with pytest.raises(ConvertError) as caught:
        convert.plan(checkpoint, "Q8_0")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    return str(caught.value)


def change_header(checkpoint: Path, **changes: object) -> None:
    """Change the first tensor's entry in the header; `name` renames it."""
    path = checkpoint / "model.safetensors"
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    name = next(name for name in header if name != "__metadata__")
    entry = header[name]
    del header[name]
    header = {changes.pop("name", name): {**entry, **changes}, **header}
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[start:])


@pytest.mark.parametrize("name", [name for name in NAMES if len(name) > 255 or "\x1b" in name])
def test_names_that_no_tensor_has(name: str, checkpoint: Path) -> None:
    change_header(checkpoint, name=name)
    assert "which no tensor has" in refused(checkpoint)
    index = {"weight_map": {name: "model.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "index.json: has the name" in refused(checkpoint)


@pytest.mark.parametrize("dtype", [["F32"], {"F32": 1}, None, "f32", "x" * 10_000])
def test_dtypes_that_are_none(dtype: object, checkpoint: Path) -> None:
    change_header(checkpoint, dtype=dtype)
    assert "has the unknown dtype" in refused(checkpoint)


@pytest.mark.parametrize("shape", [[1] * 100_000, [2**63] * 2, [10**400], [-1, -1], "256"])
def test_shapes_that_are_none(shape: object, checkpoint: Path) -> None:
    change_header(checkpoint, shape=shape)
    assert "is malformed" in refused(checkpoint)


@pytest.mark.parametrize("key", ["license", "base_model", "tags", "language"])
def test_a_card_that_would_fill_the_memory_is_refused(key: str, checkpoint: Path) -> None:
    lines = ["a0: &a0 [x, x, x]", *(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 9}]" for n in range(1, 10))]
    text = "\n".join(["---", *lines, f"{key}: *a9", "---", "# Model"])
    (checkpoint / "README.md").write_text(text)
    assert "README.md: its front matter has aliases" in refused(checkpoint)


def test_a_long_card_is_refused_and_emphasis_is_no_alias(checkpoint: Path) -> None:
    card = checkpoint / "README.md"
    card.write_text("---\nlicense: mit\ntags:\n" + "- tag\n" * 60_000 + "---\n")
    assert "its front matter has" in refused(checkpoint)
    card.write_text("---\nlicense: mit\nsummary: with *emphasis* and *more*\n---\n")
    assert convert.plan(checkpoint, "Q8_0").fields["general.license"].value == "mit"


def test_a_card_of_deep_brackets_is_refused(checkpoint: Path) -> None:
    """The parser's time grows with the depth: 256 KB of these took minutes."""
    deep = "[" * 300 + "]" * 300 + ",\n"
    (checkpoint / "README.md").write_text("---\na: [" + deep * 300 + "]\n---\n")
    assert "README.md: its front matter is nested too deeply" in refused(checkpoint)


def test_what_a_card_says_does_not_reach_the_terminal(
    checkpoint: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (checkpoint / "README.md").write_text('---\nbase_model: ["\\e]52;c;eA==\\a"]\n---\n')
    convert.plan(checkpoint, "Q8_0")
    assert capfd.readouterr().err == ""


def test_escapes_that_are_no_text_are_replaced(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    config["_name_or_path"] = "org/mo\ud800del"
    (checkpoint / "config.json").write_text(json.dumps(config))
    ended = run_here(["info", str(checkpoint)])
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.parametrize("data", [LFS, PAGE])
@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer.model", "chat_template.jinja"]
)
def test_a_pointer_and_a_page_are_named(name: str, data: bytes, checkpoint: Path) -> None:
    if name == "tokenizer.model":
        (checkpoint / "tokenizer.json").unlink()
    (checkpoint / name).write_bytes(data)
    message = refused(checkpoint)
    assert f"{name}: is " in message
    assert ("pointer" if data == LFS else "page") in message
