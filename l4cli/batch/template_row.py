"""--template-row: renders a prompt from a record's fields with a sandboxed Jinja template."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined, UndefinedError, meta

from l4cli.errors import InputError, UsageError
from l4cli.prompt.budget import SECONDS, Budget, OverBudgetError, size_of
from l4cli.prompt.sandbox import TemplateEnvironment
from l4cli.prompt.template import said_by
from l4cli.prompt.traced import plain

_ALONE = re.compile(r"\s*([^\W\d]\w*)\s*")  # a template that is nothing but a name
_BRACED = re.compile(r"(?<!\{)\{\s*([^\W\d]\w*)\s*\}(?!\})")
_ENOUGH = 3  # rows at the beginning that are stopped before the template is taken to be at fault


class JinjaRow:
    """A compiled template. Raises UsageError if `source` does not compile.

    seconds: the longest that it may take for one row.
    """

    def __init__(self, source: str, *, seconds: float = SECONDS) -> None:
        self._source, self._seconds = source, seconds
        self._num_stopped = 0
        self._has_rendered = False
        self._environment = TemplateEnvironment(
            undefined=StrictUndefined, keep_trailing_newline=True
        )
        try:
            self._template = self._environment.from_string(source)
            self._names = meta.find_undeclared_variables(self._environment.parse(source))
        except Exception as error:  # the source may be anything, and is made into Python
            raise UsageError(f"--template-row does not compile: {said_by(error)}") from error

    @property
    def doubt(self) -> str:
        """What is odd about the template, and what may have been meant; "" if nothing is."""
        if self._names:
            return ""
        meant = _BRACED.sub(r"{{ \1 }}", self._source)
        if match := _ALONE.fullmatch(self._source):
            meant = f"{{{{ {match[1]} }}}}"
        said = "--template-row uses no column or field, so every row has the same prompt"
        return f"{said}; did you mean '{meant}'?" if meant != self._source else said

    def render(self, values: Mapping[str, Any]) -> str:
        """Return the prompt. Raises InputError if this row cannot be rendered.

        Raises UsageError if the first rows all use up the template's budget: the others would, too.
        """
        budget = Budget(size_of(values), seconds=self._seconds)
        try:
            text = self._environment.rendered(self._template, values, budget)
        except OverBudgetError as error:
            raise self._stopped(error) from None
        except UndefinedError as error:
            has = ", ".join(values) or "none"
            raise InputError(
                f"--template-row: {error.message or 'undefined'}; this row's fields: {has}"
            ) from None
        except Exception as error:  # a template is a program, and can raise anything
            raise InputError(f"--template-row cannot render this row: {said_by(error)}") from None
        self._has_rendered = True
        return plain(text)  # to the chat template it is a user's text

    def _stopped(self, error: OverBudgetError) -> InputError | UsageError:
        self._num_stopped += 1
        if self._num_stopped < _ENOUGH or self._has_rendered:
            return InputError(f"--template-row was stopped at this row: {error}")
        return UsageError(f"--template-row was stopped at each of the first rows: {error}")
