"""Checked access to a model's metadata: a plausible number, or an error that names the key.

The metadata comes from a GGUF's header, from llama.cpp's API, or from a config.json.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

from l4cli.errors import InputError

Metadata = Callable[[str], Any]  # returns a key's value, or None if there is none

_MAX_NUMBER = 1 << 31


def is_array(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


class Header:
    """Typed access to the keys of one architecture; errors name the model and the key."""

    def __init__(self, values: Metadata, name: str) -> None:
        self._values, self._name = values, name
        architecture = values("general.architecture")
        if not isinstance(architecture, str) or not architecture:
            raise InputError(f"{name}: does not say its architecture (general.architecture)")
        self.architecture = architecture

    def raw(self, key: str) -> Any:
        value = self._values(f"{self.architecture}.{key}")
        return list(value) if is_array(value) else value

    def number(
        self, key: str, default: int | None = None, *, least: int = 0, most: int = _MAX_NUMBER
    ) -> int:
        value = self.raw(key)
        if isinstance(value, str) and re.fullmatch("[0-9]{1,19}", value):  # llama.cpp's API
            value = int(value)
        if value is None:
            if default is None:
                raise self.error(key, "is missing")
            return default
        if is_array(value) and value and all(type(item) is int for item in value):
            value = max(value)
        return self._checked(key, value, least, most)

    def numbers(
        self, key: str, count: int, default: tuple[int, ...] | None = None
    ) -> tuple[int, ...]:
        """Return one number per layer. The metadata has a list, or one number for all layers."""
        value = self.raw(key)
        if value is None and default is not None:
            return default
        if not is_array(value):
            return (self.number(key),) * count
        if len(value) < count:
            raise self.error(key, f"has {len(value)} entries for {count} layers")
        return tuple(self._checked(key, item, 0, _MAX_NUMBER) for item in value[:count])

    def _checked(self, key: str, value: object, least: int, most: int) -> int:
        if type(value) is not int or not least <= value <= most:
            raise self.error(key, f"is {value!r}, not a number from {least} to {most}")
        return value

    def error(self, key: str, what: str) -> InputError:
        return InputError(f"{self._name}: {self.architecture}.{key} {what}: the file is damaged")
