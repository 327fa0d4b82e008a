"""Chat templates that take as long as a template may, 10 s, and a model with such a template."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import convert

LOOP = (
    "{% for a in range(99999) %}{% if range(99999) | list | length < 3 %}x{% endif %}{% endfor %}"
)


def slow_if(what: str) -> str:
    """A template that is slow for a text with the word "slow"."""
    return "{% if 'slow' in " + what + " %}" + LOOP + "{% endif %}{{ " + what + " }}"


def write_with_template(checkpoint: Path, folder: Path, template: str) -> Path:
    """Convert a checkpoint with another chat template; return the path of the GGUF."""
    shutil.copytree(checkpoint, folder / "checkpoint")
    settings = folder / "checkpoint" / "tokenizer_config.json"
    changed = {**json.loads(settings.read_text()), "chat_template": template}
    settings.write_text(json.dumps(changed))
    path = folder / "slow.gguf"
    convert.convert(convert.plan(folder / "checkpoint", "F32"), path)
    return path
