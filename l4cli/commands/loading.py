"""Loading a model on behalf of a command: what the person sees meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from l4cli import console
from l4cli.errors import InputError
from l4cli.llm import LLM, load


def load_for_command(model: str | None, **hardware: Any) -> LLM:
    """`load` with a status line on stderr, and a word when the demo model is converted first."""
    with console.status("loading the model") as update:

        def on_convert(path: Path) -> None:
            console.note(f"converting the demo model, once, to {path}")

        return load(
            model,
            on_progress=lambda done: update(f"loading the model: {done:.0%}"),
            on_convert=on_convert,
            **hardware,
        )


def read_text_option(value: str | None) -> str | None:
    """An option's text, or with @FILE the content of that file."""
    if value is None or not value.startswith("@"):
        return value
    path = Path(value[1:]).expanduser()
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"{path}: {reason}") from error
