"""Python functions as tools: what a model is told of them, and their arguments checked by hints.

Imported by the child process that runs them, and by nothing else: l4 itself never runs a line of
the user's file.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
import sys
import traceback
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import docstring_parser
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError, to_jsonable_python
from typing_extensions import NotRequired, TypedDict

_MODULE = "l4_tools"
_ORDER = {"type": 0, "description": 1, "required": 3, "$defs": 4}  # of a schema's keywords


class ToolFileError(Exception):
    """What is wrong with a file of tools: the message names its line."""


class ToolArgumentError(Exception):
    """Arguments that do not fit a function's hints: the message names each of them."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function, the adapter of its arguments, and its entry in the list that models are given."""

    function: Callable[..., Any]
    arguments: TypeAdapter[dict[str, Any]]
    schema: dict[str, Any]

    def checked(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """JSON values as what the hints ask for; ToolArgumentError if they are something else."""
        try:
            return self.arguments.validate_json(json.dumps(arguments))
        except ValidationError as error:
            raise ToolArgumentError("; ".join(map(_complaint, error.errors()))) from None

    def run(self, arguments: Mapping[str, Any]) -> str:
        """Call the function; its result as the text for the model: a str itself, else JSON."""
        result = self.function(**self.checked(arguments))
        if inspect.iscoroutine(result):
            result = asyncio.run(result)
        if isinstance(result, str):
            return result
        try:
            return json.dumps(to_jsonable_python(result), ensure_ascii=False)
        except PydanticSerializationError:
            return repr(result)


def load_tools(path: Path) -> dict[str, Tool]:
    """The tools of a file by name: its public functions, or those in its `__all__`.

    ToolFileError if it cannot be run, or a function lacks a docstring or a hint.
    """
    module = _run(path)
    tools = {}
    for name, function in _public_functions(module):
        tools[name] = _tool(name, function, f"{path}, line {_line(function)}: {name}")
    if not tools:
        raise ToolFileError(
            f"{path}: no public functions in it; a tool is a function with hints and a docstring"
        )
    return tools


def said_by(error: BaseException) -> str:
    """What was raised, in a line."""
    said = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    return type(error).__name__ + (f": {said}" if said else "")


def place_of(error: BaseException, path: Path) -> str:
    """The file, and the last line of it that an exception came through."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines.append(error.lineno)
    return f"{path}, line {lines[-1]}" if lines and lines[-1] else str(path)


def _run(path: Path) -> ModuleType:
    sys.path.insert(0, str(path.resolve().parent))  # as `python FILE.py` would
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None:
        raise ToolFileError(f"{path}: not a Python file (its name must end in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # sys.exit() in it is no reason to leave without a word
        raise ToolFileError(f"{place_of(error, path)}: {said_by(error)}") from error
    return module


def _public_functions(module: ModuleType) -> list[tuple[str, Callable[..., Any]]]:
    chosen = getattr(module, "__all__", None)
    return [
        (name, value)
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and (
            name in chosen
            if chosen is not None
            else not name.startswith("_") and value.__module__ == _MODULE
        )
    ]


def _tool(name: str, function: Callable[..., Any], where: str) -> Tool:
    about = docstring_parser.parse(inspect.getdoc(function) or "")
    described = "\n".join(filter(None, (about.short_description, about.long_description)))
    if not described:
        raise ToolFileError(
            f"{where} has no docstring to tell the model what it does "
            "(a leading _ keeps a function out of the list)"
        )
    descriptions = {param.arg_name: param.description for param in about.params}
    try:
        arguments: TypeAdapter[Any] = TypeAdapter(_fields(function, descriptions, where))
        parameters = _plain(arguments.json_schema())
    except (PydanticUserError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ToolFileError(f"{where} has a hint that no JSON value fits: {reason}") from None
    schema = {"name": name, "description": described, "parameters": parameters}
    return Tool(function, arguments, {"type": "function", "function": schema})


def _fields(
    function: Callable[..., Any], descriptions: Mapping[str, str | None], where: str
) -> type[Any]:
    """The arguments as a TypedDict: whatever they are called, none can clash with a method."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise ToolFileError(f"{where} has a hint that cannot be read: {error}") from None
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ToolFileError(
                f"{where} takes {parameter}; the arguments of tools have a name each"
            )
        if parameter.name not in hints:
            raise ToolFileError(f"{where}: its parameter {parameter.name!r} has no type hint")
        hint: Any = hints[parameter.name]
        if about := descriptions.get(parameter.name):
            hint = Annotated[hint, Field(description=about)]
        if parameter.default is not parameter.empty:
            hint = NotRequired[hint]
        fields[parameter.name] = hint
    made = TypedDict("Arguments", fields)  # type: ignore[misc]
    return with_config(ConfigDict(extra="forbid"))(made)


def _plain(schema: Any) -> Any:
    """A JSON Schema without what says nothing to a model, the type first as models know it."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: {name: _plain(item) for name, item in value.items()}  # names, not keywords
        if key in ("properties", "$defs")
        else _plain(value)
        for key, value in schema.items()
        if key not in ("title", "additionalProperties")
    }
    return {key: kept[key] for key in sorted(kept, key=lambda key: _ORDER.get(key, 2))}


def _complaint(error: Any) -> str:
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"{where} is required"
    if error["type"] == "extra_forbidden":
        return f"there is no argument {where}"
    return f"{where}: {error['msg'][:1].lower()}{error['msg'][1:]}"


def _line(function: Callable[..., Any]) -> int:
    return inspect.getsourcelines(function)[1]
