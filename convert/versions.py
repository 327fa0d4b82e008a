"""Versions of packages, for the metadata of files and the settings of journals."""

from __future__ import annotations

from importlib import metadata


def version_of(package: str) -> str:
    """The version of an installed package; "unknown" if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"
