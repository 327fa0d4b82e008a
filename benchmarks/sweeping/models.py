"""Files of models: checkpoints and GGUFs through the commands that read them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from checkpoints import write_checkpoint
from commands_here import run_here
from decoders import KINDS, write_decoder
from gguf_commands import COMMANDS
from gguf_fuzz import absurd, damaged, edited, read_header, write_hollow
from odd_checkpoints import Checkpoints, wrong_with
from odd_gguf import Model, change

import convert
from benchmarks.sweeping.trial import FINE, REFUSED, Ended, Trial
from convert.gguf.array import GGUFArray
from convert.gguf.file import read_gguf
from convert.gguf.vetting import vet

_SCOUT: dict[str, Any] = {"num_local_experts": 2, "num_hidden_layers": 4}
_ODD_KINDS = ("llama2", "llama3", "qwen3moe")


def checkpoints(scratch: Path) -> Trial:
    """Damaged checkpoints: converted, planned and described."""
    makers = Checkpoints(scratch)

    def trial(seed: int) -> Ended:
        wrong = list(wrong_with(makers.write(seed)))
        return Ended(finding=" / ".join(wrong)) if wrong else FINE

    return trial


def gguf(scratch: Path) -> Trial:
    """GGUFs that say odd things: described, planned, and run if they pass the check."""
    sound = [Model.read(path) for path in _ggufs(scratch, _ODD_KINDS)]

    def trial(seed: int) -> Ended:
        chance = random.Random(seed)
        model = chance.choice(sound).copy()
        change(model, chance)
        path = model.write(scratch / "odd.gguf")
        for command in ("info", "plan"):
            ended = run_here([part.replace("{}", str(path)) for part in COMMANDS[command]])
            if ended.wrong:
                return Ended(finding=f"l4 {command}: {ended.wrong}")
        return _run(path, scratch) if _passes(path) else REFUSED

    return trial


def gguf_damage(scratch: Path) -> Trial:
    """Headers with wrong bytes, or one absurd number: read with every item, and run if they pass
    the check.
    """
    files = _ggufs(scratch, KINDS)
    headers = [(read_header(file), file.stat().st_size) for file in files]
    numbers = [list(absurd(file)) for file in files]

    def trial(seed: int) -> Ended:
        chance = random.Random(seed)
        which, path = chance.randrange(len(files)), scratch / "odd.gguf"
        header, n_data = headers[which]
        if chance.random() < 0.2:
            edited(files[which], path, **chance.choice(numbers[which]))
        else:
            write_hollow(path, next(damaged(header, chance)), n_data)
        try:
            for value in read_gguf(path).fields.values():
                if isinstance(value, GGUFArray):
                    list(value)
            convert.describe(path)
        except convert.ConvertError:
            return REFUSED
        return _run(path, scratch) if _passes(path) else REFUSED

    return trial


def _passes(path: Path) -> bool:
    try:
        vet(path)
    except convert.ConvertError:
        return False
    return True


def _run(path: Path, scratch: Path) -> Ended:
    """Load and run a GGUF. If llama.cpp ends this process, the sweep notes it and goes on."""
    rows = scratch / "rows.jsonl"
    if not rows.exists():
        rows.write_text('{"prompt": "hello world"}\n')
    ended = run_here(["run", str(rows), "-m", str(path), "--ctx", "256", "-n", "3", "--raw"])
    if ended.wrong:
        return Ended(finding=f"l4 run: {ended.wrong}")
    return REFUSED if ended.code else FINE


def _ggufs(scratch: Path, kinds: Iterable[str]) -> list[Path]:
    """A tiny model of each architecture."""
    made = [write_checkpoint(scratch / "scout", **_SCOUT)]
    made += [write_decoder(scratch / kind, kind, num_hidden_layers=1) for kind in kinds]
    return [
        convert.convert(convert.plan(path, "F32"), path.with_suffix(".gguf")).path for path in made
    ]
