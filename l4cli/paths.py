"""The user's folders: configuration, caches and state, by the XDG base directory specification."""

from __future__ import annotations

import os
from pathlib import Path


def config_dir() -> Path:
    """The folder of the user's configuration: $XDG_CONFIG_HOME/l4, or ~/.config/l4."""
    return _xdg("XDG_CONFIG_HOME", ".config")


def cache_dir() -> Path:
    """The folder of what can be made again: $XDG_CACHE_HOME/l4, or ~/.cache/l4."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def state_dir() -> Path:
    """The folder of sessions and history: $XDG_STATE_HOME/l4, or ~/.local/state/l4."""
    return _xdg("XDG_STATE_HOME", ".local/state")


def _xdg(variable: str, fallback: str) -> Path:
    root = os.environ.get(variable)
    return (Path(root) if root else Path.home() / fallback) / "l4"
