"""Python functions as tools: their schemas for the model, and type checks of their arguments.

Only the child process that runs the tools imports this module. The l4 process itself never runs a
line of the user's file.
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
from typing_extensions import NotRequired, TypedDict

from l4cli.chat.tools.results import text_of

_MODULE = "l4_tools"
_ORDER = {"type": 0, "description": 1, "required": 3, "$defs": 4}  # of the keywords in a schema


class ToolFileError(Exception):
    """A file of tools cannot be used; the message names the line, where there is one."""


class ToolArgumentError(Exception):
    """Arguments do not fit a function's type hints; the message names each of them."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call.

    arguments: checks the arguments against the type hints, and converts them.
    schema: the entry in the list of tools that the model gets, in OpenAI's form.
    """

    function: Callable[..., Any]
    arguments: TypeAdapter[dict[str, Any]]
    schema: dict[str, Any]

    def checked(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Convert JSON values to the hinted types; ToolArgumentError if they do not fit."""
        try:
            return self.arguments.validate_json(json.dumps(arguments))
        except ValidationError as error:
            raise ToolArgumentError("; ".join(map(_complaint, error.errors()))) from None

    def run(self, arguments: Mapping[str, Any]) -> str:
        """Call the function; return its result as text for the model."""
        result = self.function(**self.checked(arguments))
        if inspect.iscoroutine(result):
            result = asyncio.run(result)
        return text_of(result)


def load_tools(path: Path) -> dict[str, Tool]:
    """Return a file's tools by name: the functions in its `__all__`, else its public functions.

    ToolFileError if the file cannot be run, or if a function lacks a docstring or a type hint.
    """
    module = _run(path)
    tools = {}
    for name, function in _public_functions(module):
        tools[name] = _tool(name, function, f"{path}, line {_line(function)}: {name}")
    if not tools:
        raise ToolFileError(
            f"{path}: no public functions in it; a tool is a function with type hints "
            "and a docstring"
        )
    return tools


def about_tools() -> str:
    """Return the docstring of the file that `load_tools` has run; "" if it has none."""
    doc = getattr(sys.modules.get(_MODULE), "__doc__", None)
    return inspect.cleandoc(doc) if isinstance(doc, str) else ""


def said_by(error: BaseException) -> str:
    """Return an exception's type and message in one line."""
    try:
        said = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    except Exception:  # its __str__ is the user's code, too
        said = ""
    return type(error).__name__ + (f": {said}" if said else "")


def place_of(error: BaseException, path: Path) -> str:
    """Return the file and, if known, its innermost line that an exception came from."""
    frames = traceback.extract_tb(error.__traceback__)
    # Python names the file with all its folders, whatever `path` has.
    names = (str(path), getattr(sys.modules.get(_MODULE), "__file__", None))
    lines = [frame.lineno for frame in frames if frame.filename in names]
    if isinstance(error, SyntaxError) and error.filename in names:
        lines.append(error.lineno)
    return f"{path}, line {lines[-1]}" if lines and lines[-1] else str(path)


def _run(path: Path) -> ModuleType:
    sys.path.insert(0, str(path.resolve().parent))  # so that imports work as with `python FILE.py`
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None:
        raise ToolFileError(f"{path}: not a Python file (its name must end in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # also sys.exit() in the file must be reported
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
        raise ToolFileError(f"{where} has a type hint that no JSON value fits: {reason}") from None
    schema = {"name": name, "description": described, "parameters": parameters}
    return Tool(function, arguments, {"type": "function", "function": schema})


def _fields(
    function: Callable[..., Any], descriptions: Mapping[str, str | None], where: str
) -> type[Any]:
    """Return the arguments as a TypedDict: there no argument name can clash with a method."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise ToolFileError(f"{where} has a type hint that cannot be read: {error}") from None
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ToolFileError(
                f"{where} takes {parameter}; a tool's arguments are all passed by name"
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
    """Return a JSON Schema without keywords that are useless to a model, in the usual order."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: {
            name: _plain(item) for name, item in value.items()
        }  # the keys are names, not keywords
        if key in ("properties", "$defs")
        else _plain(value)
        for key, value in schema.items()
        if key not in ("title", "additionalProperties")
    }
    return {key: kept[key] for key in sorted(kept, key=lambda key: _ORDER.get(key, 2))}


def _complaint(error: Any) -> str:
    """Return one error of pydantic's as a line for the model."""
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"{where} is required"
    if error["type"] == "extra_forbidden":
        return f"there is no argument {where}"
    return f"{where}: {error['msg'][:1].lower()}{error['msg'][1:]}"


def _line(function: Callable[..., Any]) -> int:
    return inspect.getsourcelines(function)[1]
