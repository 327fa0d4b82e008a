"""Finds the GGUF that a folder stands for."""

from __future__ import annotations

from pathlib import Path

from l4cli.models.quants import by_label

_MOST_NAMED = 8  # files in a message


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder has a checkpoint of Hugging Face: its weights, or only its description.

    Repositories of GGUF files often have a config.json, too.
    """
    has_weights = next(folder.glob("*.safetensors"), None) is not None
    return (folder / "config.json").is_file() and (has_weights or not ggufs_in(folder))


def ggufs_in(folder: Path) -> list[Path]:
    """Return the language models in a folder, or else in the folders in it: the first file of each.

    On the Hub, each quantization of a large model has a folder of its own.
    """
    for pattern in ("*.gguf", "*/*.gguf"):
        names = [path.relative_to(folder).as_posix() for path in folder.glob(pattern)]
        if found := sorted(files[0] for files in by_label(names).values()):
            return [folder / name for name in found]
    return []


def some_names(folder: Path, files: list[Path]) -> str:
    """The files' names within the folder; of many, the first ones and how many more there are."""
    names = ", ".join(str(file.relative_to(folder)) for file in files[:_MOST_NAMED])
    left = len(files) - _MOST_NAMED
    return f"{names} and {left} more" if left > 0 else names
