"""What a checkpoint's files can do to whoever reads them: one line, in bounded time and memory."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_checkpoint

import convert
from convert import ConvertError
from l4cli.errors import L4Error
from l4cli.fit.described import checkpoint_shape

SMALL = {"num_local_experts": 2, "num_hidden_layers": 1}
FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "chat_template.jinja",
    "README.md",
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("sound") / "model", **SMALL)


@pytest.fixture
def checkpoint(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "model"))


def refused(checkpoint: Path) -> str:
    with pytest.raises(ConvertError) as caught:
        convert.plan(checkpoint, "Q8_0")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def deep(path: Path) -> None:
    path.write_text('{"a":' + "[" * 100_000)


ODD: dict[str, tuple[Callable[[Path], None], str]] = {
    "device": (device, "is a pipe or a device"),
    "pipe": (os.mkfifo, "is a pipe or a device"),
    "huge": (huge, "MiB, but a file of this name has at most"),
    "dangling": (lambda path: path.symlink_to("/no/such/file"), "a link to a file that does not"),
    "directory": (lambda path: path.mkdir(), "is a directory"),
    "deep": (deep, "nested too deep"),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", FILES)
def test_odd_files_are_named(name: str, kind: str, checkpoint: Path) -> None:
    if kind == "deep" and not name.endswith(".json"):
        pytest.skip("no JSON")
    make, said = ODD[kind]
    (checkpoint / name).unlink(missing_ok=True)
    if name == "chat_template.jinja":  # read where tokenizer_config.json has no template
        (checkpoint / "tokenizer_config.json").unlink(missing_ok=True)
    make(checkpoint / name)

    message = refused(checkpoint)

    assert message.startswith(f"{checkpoint / name}: ")
    assert said in message


@pytest.mark.parametrize("key", ["num_local_experts", "num_hidden_layers", "vocab_size"])
@pytest.mark.parametrize("value", [10**9, 10**400, -1, 0, 2.5, 1e308, "9", True, [1], {}])
def test_absurd_numbers_are_refused_at_once(key: str, value: Any, checkpoint: Path) -> None:
    path = checkpoint / "config.json"
    config = json.loads(path.read_text())
    inner = config.get("text_config", config)
    inner[key] = value
    path.write_text(json.dumps(config))

    assert f"`{key}` is " in refused(checkpoint)
    with pytest.raises((ConvertError, L4Error), match=f"`{key}` is "):
        checkpoint_shape(checkpoint, "Q8_0")
    with pytest.raises(ConvertError, match=f"`{key}` is "):
        convert.describe(checkpoint)
