"""--template-row: renders a prompt from a record's fields with a sandboxed Jinja template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from l4cli.errors import InputError, UsageError


class JinjaRow:
    """A compiled template. Raises UsageError if `source` does not compile."""

    def __init__(self, source: str) -> None:
        environment = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined, keep_trailing_newline=True
        )
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise UsageError(f"--template-row does not compile: {error}") from error

    def render(self, values: Mapping[str, Any]) -> str:
        """Return the prompt. Raises InputError if a field is missing."""
        try:
            return self._template.render(values)
        except UndefinedError as error:
            has = ", ".join(values) or "none"
            raise InputError(
                f"--template-row: {error.message or 'undefined'}; this row's fields: {has}"
            ) from None
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise InputError(f"--template-row cannot render this row: {error}") from None
