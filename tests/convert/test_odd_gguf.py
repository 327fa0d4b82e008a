"""GGUF files that can be read and say what no sound file says: named in a line, and no crash."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from commands_here import run_here
from damage import seeds
from decoders import write_decoder
from gguf_commands import COMMANDS, outcome
from odd_gguf import Model, change

import convert

SCOUT = {"num_local_experts": 2, "num_hidden_layers": 4}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("sound")
    made = [write_checkpoint(folder / "scout", **SCOUT)]
    made += [
        write_decoder(folder / kind, kind, num_hidden_layers=1)
        for kind in ("llama2", "llama3", "qwen3moe")
    ]
    return [
        convert.convert(convert.plan(path, "F32"), path.with_suffix(".gguf")).path for path in made
    ]


def failures(sound: list[Path], scratch: Path, members: range, commands: list[str]) -> list[str]:
    """Run `commands` on the members with these seeds; return a line for each wrong outcome."""
    found = []
    for seed in members:
        chance = random.Random(seed)
        model = Model.read(chance.choice(sound))
        change(model, chance)
        path = model.write(scratch / "odd.gguf")
        for command in commands:
            if command in ("info", "plan", "quantize"):
                arguments = [part.replace("{}", str(path)) for part in COMMANDS[command]]
                wrong = run_here(arguments).wrong
            else:
                ended = outcome(command, path)
                wrong = ended.text if ended.kind in ("wrong", "crash") else None
            if wrong is not None:
                found.append(f"{seed}: l4 {command}: {wrong[-500:]}")
    return found


def test_odd_files_are_described_or_refused(sound: list[Path], tmp_path: Path) -> None:
    assert failures(sound, tmp_path, seeds(30), ["info", "plan", "quantize"]) == []


@pytest.mark.slow
def test_odd_files_end_no_process(sound: list[Path], tmp_path: Path) -> None:
    assert failures(sound, tmp_path, seeds(20), ["run", "chat"]) == []


@pytest.mark.parametrize("kind", ["bos", "eos"])
@pytest.mark.parametrize("beyond", [0, 1, 2**31])
def test_special_ids_beyond_the_vocabulary_are_refused(
    kind: str, beyond: int, sound: list[Path], tmp_path: Path
) -> None:
    """llama.cpp would take token 11 or 1 in their place, which is another text here."""
    model = Model.read(sound[0])
    tokens = model.find("tokenizer.ggml.tokens")
    assert tokens is not None
    model.set(f"tokenizer.ggml.{kind}_token_id", 4, len(tokens.value[1]) + beyond)
    path = model.write(tmp_path / "odd.gguf")
    for command in ("run", "chat"):
        ended = outcome(command, path)
        assert (ended.kind, ended.text.count("\n")) == ("refused", 1)
        assert f"tokenizer.ggml.{kind}_token_id is" in ended.text
    assert run_here(["info", str(path)]).code == 1


def test_weights_that_begin_anywhere_are_refused(sound: list[Path], tmp_path: Path) -> None:
    model = Model.read(sound[0])
    model.set("general.alignment", 4, 1)
    for name in (b"o", b"od"):
        model.set("general.name", 8, name)
        path = model.write(tmp_path / f"{name.decode()}.gguf", alignment=1)
        if (path.stat().st_size - len(model.data)) % 32:
            break
    ended = outcome("run", path)
    assert ended.kind == "refused"
    assert "its weights begin at byte" in ended.text
