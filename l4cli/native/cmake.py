"""Reads and writes CMAKE_ARGS, the variable with which a build passes arguments to CMake."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

_CXX_FLAGS = "-DCMAKE_CXX_FLAGS="


def split_arguments(text: str) -> list[str]:
    """Return the arguments in the variable's value, split as the build splits them."""
    try:
        return shlex.split(text)
    except ValueError:  # an unclosed quotation mark: the build refuses it
        return []


def join_arguments(arguments: Sequence[str]) -> str:
    """Return the variable's value; of each setting only the value is quoted: -DNAME='a b'."""
    return " ".join(map(_quoted, arguments))


def with_flags(arguments: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Return the arguments with more C++ compiler flags, all in one setting CMAKE_CXX_FLAGS."""
    given = [each.removeprefix(_CXX_FLAGS) for each in arguments if each.startswith(_CXX_FLAGS)]
    others = [each for each in arguments if not each.startswith(_CXX_FLAGS)]
    all_flags = [*flags, *given[-1:]]
    return [_CXX_FLAGS + " ".join(all_flags), *others] if all_flags else others


def _quoted(argument: str) -> str:
    name, equals, value = argument.partition("=")
    if equals and value and shlex.quote(name) == name:
        return f"{name}={shlex.quote(value)}"
    return shlex.quote(argument)
