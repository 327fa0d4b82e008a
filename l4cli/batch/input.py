"""The input options of `l4 run`, gathered in one value that opens and parses the input."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from l4cli import console
from l4cli.batch.files import count_lines, folder_of, open_input
from l4cli.batch.lines import lines_of
from l4cli.batch.rows import BadRow, Row, read_rows
from l4cli.batch.sources import Source
from l4cli.documents.text import read_text
from l4cli.engine.types import Constraint
from l4cli.errors import InputError, UsageError
from l4cli.models.locate import names_a_model
from l4cli.openai import fields
from l4cli.paths import expanded
from l4cli.prompt import strict_json
from l4cli.prompt.short_schema import schema_of

_SOURCES: dict[str, Source] = {".txt": "text", ".csv": "csv"}


@dataclass(frozen=True, slots=True)
class RowsInput:
    """An input of rows and how to parse it.

    name: a path, or "-" for stdin.
    source: the format of the lines.
    template: the source of the --template-row template; None without one.
    lenient: ignore unknown fields.
    """

    name: str
    source: Source = "json"
    template: str | None = None
    lenient: bool = False

    @property
    def label(self) -> str:
        """The input's name in messages."""
        return "stdin" if self.name == "-" else self.name

    @property
    def is_file(self) -> bool:
        """Whether the input is a regular file, so all rows are available; a pipe may be slow."""
        if self.name != "-":
            return Path(self.name).is_file()
        return stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode)

    @property
    def settings(self) -> dict[str, Any]:
        """The input settings that must be unchanged for a run to be resumed."""
        return {
            "input format": self.source,
            "--template-row": self.template,
            "--lenient": self.lenient,
        }

    def open(self, out: Path | None) -> AbstractContextManager[BinaryIO]:
        """Open the input. Raises UsageError if `out` is the same file."""
        return open_input(self.name, out)

    def rows(self, file: BinaryIO) -> Iterator[Row | BadRow]:
        """Yield the rows of an opened input, lazily.

        Raises UsageError if the template does not compile, and InputError if a regular file is
        unusable as a whole. A pipe is first looked at when its first row is asked for.
        """
        template = None
        if self.template is not None:
            from l4cli.batch.template_row import JinjaRow

            template = JinjaRow(self.template)
            if template.doubt:
                console.warn(template.doubt)
        read = partial(
            read_rows,
            lines_of(file),
            source=self.source,
            lenient=self.lenient,
            template=template,
            folder=folder_of(self.name),
        )
        return read() if self.is_file else _when_asked(read)

    def count(self) -> int | None:
        """Return the number of rows; None for a pipe or CSV, where it is not known in advance."""
        return None if self.source == "csv" else count_lines(self.name)


def _when_asked(read: Callable[[], Iterator[Row | BadRow]]) -> Iterator[Row | BadRow]:
    yield from read()


def source_of(name: str, text: bool, csv: bool) -> Source:
    """Return the input format that --text and --csv select; without them, the file's name decides.

    name: the path of the input, or "-" for stdin.
    """
    if text and csv:
        raise UsageError("--text and --csv cannot be combined: give one")
    if text or csv:
        return "text" if text else "csv"
    return _SOURCES.get(Path(name).suffix.lower(), "json")


def refuse_model(name: str) -> None:
    """Raise UsageError if the input is a model's name, as in other tools' `run MODEL`."""
    if name == "-" or (Path(name).exists() and not name.endswith(".gguf")):
        return
    if names_a_model(name):
        raise UsageError(
            f"{name} is a model, not a file of prompts: `l4 chat -m {name}` talks to it, "
            f"`l4 run -m {name} FILE` answers a file"
        )


def constraint_of(schema: str | Path | None, grammar: Path | None) -> Constraint | None:
    """Return the constraint that --schema or --grammar sets for every answer; None without either.

    schema: a JSON Schema, a file with one, or the short form of `short_schema`.

    Raises InputError with the file's name if it cannot be read or is not a JSON schema.
    """
    if schema and grammar:
        raise UsageError("--schema and --grammar cannot be combined: give one")
    if schema is not None:
        where = "--schema"
        try:
            if isinstance(schema, Path) or _names_a_file(schema):
                where = str(schema)
                value = strict_json.parse(read_text(Path(schema)), is_unique=True)
            elif schema.lstrip().startswith("{"):
                value = strict_json.parse(schema, is_unique=True)
            else:
                value = schema_of(schema)
            return fields.schema_constraint(value)
        except InputError as error:
            said = str(error)
            raise InputError(said if said.startswith(where) else f"{where}: {said}") from None
    return Constraint("grammar", read_text(grammar)) if grammar else None


def _names_a_file(schema: str) -> bool:
    """Whether --schema is a path: of a file that is there, or one that looks like a JSON file's."""
    if not schema.strip() or schema.lstrip().startswith("{") or "\n" in schema:
        return False
    path = str(expanded(schema))
    is_there = os.path.lexists(path) and not os.path.isdir(path)  # noqa: PTH112 - a NUL is no error
    return is_there or schema.endswith((".json", ".jsonschema"))
