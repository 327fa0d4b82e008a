"""Tools: a Python file's functions, offered to the model and run in a separate process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l4cli.chat.tools.process import Reply, ToolProcess, ToolProcessError
from l4cli.errors import InputError
from l4cli.prompt.tool_calls import ToolCall

DEFAULT_TIMEOUT = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of a call.

    text: the text for the model.
    is_error: whether the call failed or was not allowed.
    printed: the end of what the function printed.
    where: the file and line of an exception; "" for none.
    exit_code: the exit code for l4 if a signal to l4 ended the call, else 0.
    """

    text: str
    is_error: bool = False
    printed: str = ""
    where: str = ""
    exit_code: int = 0


class Toolbox:
    """The tools of one file. Close it, or use it as a context manager.

    file: the Python file.
    timeout: seconds that loading the file, or a call, may take.

    `schemas` is the list of tools in OpenAI's form, which chat templates take; `about` is the
    file's docstring; `printed` is what the file printed while it was loaded. A process that hung or
    crashed is replaced at the next call; everything that the functions kept in memory is then lost.
    InputError, with the file and line, if the file has no usable tools.
    """

    def __init__(self, file: Path, timeout: float = DEFAULT_TIMEOUT) -> None:
        self.file = file
        self._timeout = timeout
        if not file.is_file():
            raise InputError(f"{file}: {'not a file' if file.exists() else 'no such file'}")
        self._process = self._start()
        self.schemas: Sequence[dict[str, Any]] = self._process.loaded.value["tools"]
        self.about: str = self._process.loaded.value["about"]
        self.printed = self._process.loaded.printed

    def __enter__(self) -> Toolbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def names(self) -> list[str]:
        return [schema["function"]["name"] for schema in self.schemas]

    def check(self, call: ToolCall) -> ToolResult | None:
        """Return why a call cannot be run, as its result, or None; does not run the function."""
        if call.name not in self.names:
            known = ", ".join(self.names)
            return _error(f"there is no function {call.name}; there are: {known}")
        result = self._exchange({"check": call.name, "arguments": call.arguments})
        return result if result.is_error else None

    def run(self, call: ToolCall, announce: Callable[[], None] = lambda: None) -> ToolResult:
        """Run a call that has been checked; if it fails, the error is its result.

        `announce` is called first; from then on Ctrl-C stops the call.
        """
        return self._exchange({"call": call.name, "arguments": call.arguments}, announce)

    def close(self) -> None:
        self._process.close()

    def _exchange(
        self, request: Mapping[str, Any], announce: Callable[[], None] = lambda: None
    ) -> ToolResult:
        try:
            if not self._process.is_running:
                self._process = self._start()
            reply = self._process.exchange(request, announce)
        except ToolProcessError as error:
            return _error(str(error), error.printed, exit_code=error.exit_code)
        except InputError as error:  # the file was changed and cannot be loaded again
            return _error(str(error))
        return _result_of(reply)

    def _start(self) -> ToolProcess:
        try:
            process = ToolProcess(self.file, self._timeout)
        except ToolProcessError as error:
            said = f" after printing: {error.printed}" if error.printed else ""
            raise InputError(f"{self.file}: {error}{said}") from None
        if "error" in process.loaded.value:
            process.close()
            raise InputError(process.loaded.value["error"])
        return process


def shown(call: ToolCall) -> str:
    """Return a call as Python writes it: get_weather(city="Oslo")."""
    arguments = ", ".join(f"{name}={_literal(value)}" for name, value in call.arguments.items())
    return f"{call.name}({arguments})"


def _literal(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def _result_of(reply: Reply) -> ToolResult:
    if "error" in reply.value:
        return _error(reply.value["error"], reply.printed, where=reply.value.get("where", ""))
    return ToolResult(reply.value.get("result", ""), printed=reply.printed)


def _error(message: str, printed: str = "", *, where: str = "", exit_code: int = 0) -> ToolResult:
    text = json.dumps({"error": message}, ensure_ascii=False)
    return ToolResult(text, True, printed, where, exit_code)
