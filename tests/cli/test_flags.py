"""Options with odd values: the command does its work, or refuses it in one clear line."""

from __future__ import annotations

import os
from pathlib import Path

import flags
import pytest


def faults(seed: int, count: int, model: Path, checkpoint: Path, folder: Path) -> list[str]:
    tried = flags.outcomes(flags.members(seed, count, str(model), str(checkpoint)), folder)
    return [f"{outcome.arguments}: {outcome.fault}" for outcome in tried if outcome.fault]


def test_no_value_of_an_option_surprises(
    tiny_gguf: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    assert faults(1, 8, tiny_gguf, tiny_checkpoint, tmp_path) == []


@pytest.mark.slow
def test_no_value_of_many_surprises(tiny_gguf: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    count = int(os.environ.get("L4_MEMBERS", "60"))
    assert faults(2, count, tiny_gguf, tiny_checkpoint, tmp_path) == []


def test_every_option_that_takes_a_value_is_tried() -> None:
    tried = {
        (member.arguments[0], argument.split("=")[0])
        for member in flags.members(1, 6000, "MODEL", "CHECKPOINT")
        for argument in member.arguments[1:]
    }
    for command, option in (("run", "--row-timeout"), ("convert", "--ram"), ("plan", "--gpu")):
        assert (command, option) in tried
