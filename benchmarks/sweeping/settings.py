"""Files that steer l4, with odd content, and the commands that read them."""

from __future__ import annotations

import os
from pathlib import Path

import odd_settings
from checkpoints import write_checkpoint
from commands_here import run_here

import convert
from benchmarks.sweeping.trial import FINE, REFUSED, Ended, Trial


def settings(scratch: Path) -> Trial:
    """config.toml, models.toml, measured speeds, and tools of a chat."""
    checkpoint = write_checkpoint(scratch / "tiny")
    model = str(convert.convert(convert.plan(checkpoint, "F32"), scratch / "tiny.gguf").path)
    config, state = (Path(os.environ[f"XDG_{name}_HOME"], "l4") for name in ("CONFIG", "STATE"))
    places = {
        "config": config / "config.toml",
        "models": config / "models.toml",
        "speeds": state / "speeds.jsonl",
        "tools": scratch / "tools.py",
    }
    plan = ["plan", "--ram", "64G@80", "--gpu", "none"]
    chat = ["chat", "-m", model, "--ctx", "512", "-n", "2", "-p", "hi"]
    commands = {
        "config": (["models"], [*plan, model], chat),
        "models": (["models"], [*plan, "mine"], ["info", "mine"], [*plan, "other"]),
        "speeds": ([*plan, model],),
        "tools": ([*chat, "--tools", str(places["tools"])],),
    }

    def trial(seed: int) -> Ended:
        kind, data = odd_settings.member(seed)
        for path in places.values():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
        places[kind].write_bytes(data)
        codes = []
        for command in commands[kind]:
            ended = run_here(command)
            if ended.wrong:
                return Ended(finding=f"{kind}: l4 {command[0]}: {ended.wrong}")
            codes.append(ended.code)
        return REFUSED if any(codes) else FINE

    return trial
