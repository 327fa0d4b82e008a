"""Marks for parametrized tests with many members."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import pytest


def slow_but(quick: Container[Any], members: Iterable[Any]) -> list[Any]:
    """The members as parameters; all are marked slow but those in `quick`."""
    return [
        member if member in quick else pytest.param(member, marks=pytest.mark.slow)
        for member in members
    ]
