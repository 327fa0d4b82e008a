"""CMAKE_ARGS: the arguments for CMake that a build of llama-cpp-python takes from a variable."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

_CXX_FLAGS = "-DCMAKE_CXX_FLAGS="


def split_arguments(text: str) -> list[str]:
    """The arguments in the variable, as the build takes it apart."""
    try:
        return shlex.split(text)
    except ValueError:  # a quotation mark without its other half: the build refuses it
        return []


def join_arguments(arguments: Sequence[str]) -> str:
    """The variable's value, with only the values of settings in quotation marks: -DNAME='a b'."""
    return " ".join(map(_quoted, arguments))


def with_flags(arguments: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Arguments with more flags for the C++ compiler, in the one setting there may be of them."""
    given = [each.removeprefix(_CXX_FLAGS) for each in arguments if each.startswith(_CXX_FLAGS)]
    others = [each for each in arguments if not each.startswith(_CXX_FLAGS)]
    all_flags = [*flags, *given[-1:]]
    return [_CXX_FLAGS + " ".join(all_flags), *others] if all_flags else others


def _quoted(argument: str) -> str:
    name, equals, value = argument.partition("=")
    if equals and value and shlex.quote(name) == name:
        return f"{name}={shlex.quote(value)}"
    return shlex.quote(argument)
