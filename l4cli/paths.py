"""The user's folders for configuration, caches and state (XDG Base Directory Specification)."""

from __future__ import annotations

import os
from pathlib import Path

STDIN = "-"  # a file of this name is stdin


def config_dir() -> Path:
    """The folder for the user's configuration: $XDG_CONFIG_HOME/l4, or ~/.config/l4."""
    return _xdg("XDG_CONFIG_HOME", ".config")


def cache_dir() -> Path:
    """The folder for files that can be recreated: $XDG_CACHE_HOME/l4, or ~/.cache/l4."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def state_dir() -> Path:
    """The folder for chat sessions and history: $XDG_STATE_HOME/l4, or ~/.local/state/l4."""
    return _xdg("XDG_STATE_HOME", ".local/state")


def expanded(path: str) -> Path:
    """The path with the home folder in place of ~; as it is if that is not possible."""
    try:
        return Path(path).expanduser()
    except (RuntimeError, ValueError):  # no such user; a null byte in the name
        return Path(path)


def _xdg(variable: str, fallback: str) -> Path:
    root = os.environ.get(variable)
    return (Path(root) if root else Path.home() / fallback) / "l4"
