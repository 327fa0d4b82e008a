"""Checks the input of a batch before any of it is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l4cli.batch import openai
from l4cli.batch.ids import IdRegister
from l4cli.batch.lines import lines_of
from l4cli.batch.rows import BadRow, read_rows
from l4cli.errors import InputError
from l4cli.serve.batches.records import Problem, problem
from l4cli.serve.served import Models, Served

_MOST_PROBLEMS = 10  # that are named


class RefusedInputError(Exception):
    """An input of which nothing is answered, and why."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems[0]["message"])
        self.problems = problems


class StoppedError(Exception):
    """The server stops, or the batch is cancelled."""


@dataclass(slots=True)
class Accept:
    """Refuses requests that do not belong into a batch: all have its endpoint and its model.

    served: the model; None until the first request has named it.
    """

    endpoint: str
    models: Models
    served: Served | None = None

    def __call__(self, envelope: Mapping[str, Any]) -> None:
        """Raise InputError for a request of another endpoint or model."""
        if openai.path(envelope) not in (self.endpoint, ""):
            raise InputError(
                f"url must be {self.endpoint}, the endpoint of the batch, not "
                f"{envelope.get('url')!r}"
            )
        body = envelope.get("body")
        name = body.get("model") if isinstance(body, dict) else None
        if name is None and self.served:
            return
        served = self.models.find(name)
        if served is None:
            names = self.models.names or "none that writes text"
            raise InputError(f"model {name!r} is not served here; served: {names}")
        self.served = self.served or served
        if served is not self.served:
            raise InputError(
                f"a batch has one model, and this one's is {self.served.name}: "
                f"put requests to {served.name} into another batch"
            )


@dataclass(frozen=True, slots=True)
class Checked:
    """An input that can be answered: by which model, and how many requests it has."""

    served: Served
    num_rows: int


def check_input(
    path: Path, endpoint: str, models: Models, *, lenient: bool, stopping: Callable[[], object]
) -> Checked:
    """Read a batch's input. A row that is wrong becomes an error row later, as long as one is not.

    Raises RefusedInputError, and StoppedError as soon as `stopping` is true.
    """
    accept, ids = Accept(endpoint, models), IdRegister()
    num_rows = num_wrong = 0
    wrong: list[Problem] = []
    try:
        with path.open("rb") as file:
            rows = read_rows(lines_of(file), lenient=lenient, accept=accept)
            for row in ids.watch(rows):
                num_rows += 1
                if isinstance(row, BadRow):
                    num_wrong += 1
                    if len(wrong) < _MOST_PROBLEMS:
                        wrong.append(problem("invalid_request", str(row.error), row.line))
                if stopping():
                    raise StoppedError
    except InputError as error:
        raise RefusedInputError([problem("invalid_file", str(error))]) from None
    except OSError as error:
        message = f"the input file cannot be read: {error.strerror}"
        raise RefusedInputError([problem("invalid_file", message)]) from None
    if not num_rows:
        message = "the input file is empty: it needs a line of JSON for each request"
        raise RefusedInputError([problem("empty_file", message)])
    num_shared, line = ids.shared()
    if num_shared:
        message = f"custom_id must be unique, and {num_shared} requests repeat that of another"
        raise RefusedInputError([problem("duplicate_custom_id", message, line)])
    if num_wrong == num_rows or accept.served is None:
        raise RefusedInputError(wrong)
    return Checked(accept.served, num_rows)
