"""How the input of a run is read: what the options of `l4 run` say about it, in one value."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from l4cli.batch import fields
from l4cli.batch.files import count_lines, folder_of, open_input
from l4cli.batch.rows import BadRow, Row, read_rows
from l4cli.batch.sources import Source
from l4cli.documents.text import read_text
from l4cli.engine.types import Constraint
from l4cli.errors import InputError, UsageError


@dataclass(frozen=True, slots=True)
class RowsInput:
    """An input by its name ("-" is stdin) and how its lines become rows."""

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
        """Whether its rows are all there; those of a pipe may be long in coming."""
        if self.name != "-":
            return Path(self.name).is_file()
        return stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode)

    @property
    def settings(self) -> dict[str, Any]:
        """What must be the same for a run to be resumed."""
        return {
            "input format": self.source,
            "--template-row": self.template,
            "--lenient": self.lenient,
        }

    def open(self, out: Path | None) -> AbstractContextManager[BinaryIO]:
        """The lines; `out` must be another file."""
        return open_input(self.name, out)

    def rows(self, lines: Iterable[bytes]) -> Iterator[Row | BadRow]:
        """The rows, read lazily; UsageError if the template does not compile."""
        template = None
        if self.template is not None:
            from l4cli.batch.template_row import JinjaRow

            template = JinjaRow(self.template)
        return read_rows(
            lines,
            source=self.source,
            lenient=self.lenient,
            template=template,
            folder=folder_of(self.name),
        )

    def count(self) -> int | None:
        """How many rows there are, where that can be told beforehand."""
        return None if self.source == "csv" else count_lines(self.name)


def source_of(text: bool, csv: bool) -> Source:
    """The format that --text and --csv choose."""
    if text and csv:
        raise UsageError("--text and --csv cannot both hold: give one")
    return "text" if text else "csv" if csv else "json"


def constraint_of(schema: Path | None, grammar: Path | None) -> Constraint | None:
    """The constraint that --schema or --grammar sets for every row; InputError names the file."""
    if schema and grammar:
        raise UsageError("--schema and --grammar cannot both hold: give one")
    if schema:
        source = read_text(schema)
        try:
            return fields.schema_constraint(json.loads(source))
        except ValueError as error:
            raise InputError(f"{schema}: not JSON: {error}") from None
        except InputError as error:
            raise InputError(f"{schema}: {error}") from None
    return Constraint("grammar", read_text(grammar)) if grammar else None
