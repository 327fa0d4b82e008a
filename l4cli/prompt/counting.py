"""Jinja's sandbox with a budget for each rendering, and texts that keep their trace."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from l4cli.prompt.budget import Budget
from l4cli.prompt.traced import concat
from l4cli.signals import giving_up


class CountingEnvironment(ImmutableSandboxedEnvironment):
    """What the compiled code of a template and its filters call."""

    def __init__(self, **options: Any) -> None:
        """options: those of Jinja's own environment."""
        super().__init__(**options)
        self._local = threading.local()

    def rendered(self, template: Template, values: Mapping[str, Any], budget: Budget) -> str:
        """What a template of this environment gives; OverBudgetError if it uses up its budget.

        A template is a program, and can raise any other exception as well. A signal ends it: it may
        take seconds.
        """
        before = getattr(self._local, "budget", None)
        self._local.budget = budget
        try:
            with giving_up(after=1):
                return template.render(values)
        finally:
            self._local.budget = before

    @property
    def budget(self) -> Budget:
        """That of the rendering in this thread; while compiling, a fresh one for each constant."""
        return getattr(self._local, "budget", None) or Budget(seconds=1)

    def step(self) -> None:
        self.budget.step()

    def concat(self, pieces: Iterable[str]) -> str:
        pieces = list(pieces)
        self.budget.make(sum(map(len, pieces)))
        return concat(pieces)

    def joined(self, values: Iterable[Any]) -> str:
        """What `~` gives."""
        return self.concat(map(self.text, values))

    def text(self, value: Any) -> str:
        """`str` of any value."""
        if isinstance(value, (list, tuple, dict)):
            self.budget.make_text_of(value)
        return str(value)
