"""The environment that all templates run in, a model's and a user's: Jinja's sandbox, and more.

It traces which characters of the result the template wrote itself (`traced.py`): the compiler makes
each literal a `Traced`, and what joins texts keeps the trace. And it counts (`budget.py`): each
block that runs is a step, and operations that can make something large say its size beforehand.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedFormatter

from l4cli.prompt.budget import Budget, OverBudgetError
from l4cli.prompt.counting import CountingEnvironment
from l4cli.prompt.filters import FILTERS
from l4cli.prompt.folding import Folding
from l4cli.prompt.traced import Traced, plain

_DIGITS = re.compile(r"\d{7,}|%[^%a-zA-Z]*\*")  # in a format: a width above a million, or one given
# What templates may call on Python's own values: nothing here makes more than it is given, but for
# those whose size is known before.
_METHODS: Mapping[type, frozenset[str]] = {
    str: frozenset(name for name in dir(str) if name[0] != "_") - {"encode", "translate"},
    list: frozenset({"index", "count", "copy"}),
    tuple: frozenset({"index", "count"}),
    dict: frozenset({"get", "items", "keys", "values", "copy"}),
    int: frozenset({"bit_length", "is_integer"}),
    float: frozenset({"is_integer"}),
}
_PADDING = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs"})
_INSERTING = frozenset({"join", "replace", "center", "ljust", "rjust"})  # may insert a literal
_ANY_NUMBER = frozenset({"default", "d", "int", "float", "sum", "abs", "string"})
_WITHOUT = ("urlize", "xmlattr")  # filters for HTML, which can take for ever


class TemplateEnvironment(CountingEnvironment):
    """Compiles and runs templates; `each rendering has its budget."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        """options: those of Jinja's own environment."""
        super().__init__(**options)
        self.code_generator_class = _Compiler
        self.literals: list[str] = []
        self.globals.pop("lipsum")
        for name in _WITHOUT:
            self.filters.pop(name)
        self.filters |= {**FILTERS, "string": self.text, "format": self.formatted}
        for name, filter in self.filters.items():
            self.filters[name] = _counted(name, filter, self)

    def literal(self, text: str) -> str:
        """The code that stands for a literal of the template."""
        self.literals.append(Traced(text))
        return f"environment.literals[{len(self.literals) - 1}]"

    def formatted(self, text: Any, *values: Any, **named: Any) -> str:
        """What `%` gives, and the filter `format`."""
        given = named or (
            values[0] if len(values) == 1 and isinstance(values[0], tuple) else values
        )
        self.budget.make_text_of(given)
        _check_format(text, self.budget)
        return str(text) % given

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        budget = self.budget
        budget.step()
        if operator == "%" and isinstance(left, str):
            return self.formatted(left, right)
        if operator == "+" and isinstance(left, (str, list, tuple)):
            budget.make(len(left) + (len(right) if isinstance(right, (str, list, tuple)) else 0))
        elif operator == "*":
            _check_product(left, right, budget)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            budget.check_bits(left.bit_length() * right)
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        owner = getattr(value, "__self__", None)
        if getattr(value, "__name__", "") not in ("format", "format_map") or not (
            isinstance(owner, str)
        ):
            return None
        text = plain(owner)
        is_own = isinstance(owner, Traced) and owner.is_own

        def wrapper(*args: Any, **kwargs: Any) -> str:
            if value.__name__ == "format_map":
                (kwargs,) = args
                return self.concat(_Formatter(self, is_own).pieces(text, (), kwargs))
            return self.concat(_Formatter(self, is_own).pieces(text, args, kwargs))

        return wrapper

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        __self.budget.step()
        owner = getattr(__obj, "__self__", None)
        if owner is not None:
            __obj = __self._allowed(__obj, owner, args)
        result = super().call(__context, __obj, *args, **kwargs)
        if isinstance(result, (str, list)):
            __self.budget.make(len(result))
        return result

    def _allowed(self, method: Any, owner: Any, args: tuple[Any, ...]) -> Any:
        """The method of a value, once it is certain that it makes nothing too large."""
        kind = next((kind for kind in _METHODS if isinstance(owner, kind)), None)
        name = method.__name__
        if kind is None:
            if isinstance(owner, (type, bytes)):
                raise SecurityError(f"templates may not call {name} of {owner!r:.40}")
            return method
        if name not in _METHODS[kind]:
            raise SecurityError(f"templates may not call {kind.__name__}.{name}")
        if kind is not str:
            return method
        if name in _PADDING:
            self.budget.check_width(args[0] if args else 0)
        if name == "replace" and len(args) > 1:
            self.budget.replace(owner, args[0], args[1])
        if name in _INSERTING and not isinstance(owner, Traced):
            return getattr(Traced(owner, ()), name)  # which keeps the trace of what it inserts
        return method


class _Compiler(CodeGenerator):
    """Literals become traced ones, `~` keeps the trace, and each block counts as a step."""

    environment: TemplateEnvironment

    def __init__(self, environment: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(environment, *args, **kwargs)
        self.optimizer = Folding(environment)

    def visit_Const(self, node: nodes.Const, frame: Frame) -> None:  # noqa: N802
        if isinstance(node.value, str):
            self.write(self.environment.literal(node.value))
        else:
            super().visit_Const(node, frame)

    def visit_TemplateData(self, node: nodes.TemplateData, frame: Frame) -> None:  # noqa: N802
        self.write(self.environment.literal(node.data))

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        self.write("environment.joined((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        self.write("environment.text(")

    def _output_const_repr(self, group: Iterable[Any]) -> str:
        return self.environment.literal("".join(group))

    def blockvisit(self, nodes: Iterable[nodes.Node], frame: Frame) -> None:
        self.writeline("environment.step()")
        super().blockvisit(nodes, frame)


class _Formatter(SandboxedFormatter):
    """`str.format` in pieces, so that their trace is kept."""

    def __init__(self, environment: TemplateEnvironment, is_own: bool) -> None:
        super().__init__(environment)
        self._budget, self._is_own = environment.budget, is_own

        self._number = 0  # of the next field without a name

    def pieces(self, text: str, args: Any, kwargs: Any, depth: int = 0) -> Iterator[str]:
        if depth > 1:
            raise ValueError("Max string recursion exceeded")
        for literal, field, spec, conversion in self.parse(text):
            if literal:
                yield Traced(literal) if self._is_own else literal
            if field is None:
                continue
            if not field or field[0] in ".[":
                field, self._number = f"{self._number}{field}", self._number + 1
            value, _ = self.get_field(field, args, kwargs)
            value = self.convert_field(value, conversion)
            spec = "".join(self.pieces(spec, args, kwargs, depth + 1)) if spec else ""
            _check_format(spec, self._budget)
            self._budget.make_text_of(value)
            yield value if isinstance(value, str) and not spec else self.format_field(value, spec)


def _check_format(text: str, budget: Budget) -> None:
    if _DIGITS.search(text):
        raise OverBudgetError("it formats a value with a very large width")
    budget.make(len(text))


def _check_product(left: Any, right: Any, budget: Budget) -> None:
    if isinstance(left, int) and isinstance(right, int):
        budget.check_bits(left.bit_length() + right.bit_length())
        return
    for many, count in ((left, right), (right, left)):
        if isinstance(many, (str, list, tuple)) and isinstance(count, int):
            budget.make(len(many) * max(count, 0))


def _counted(name: str, filter: Any, environment: TemplateEnvironment) -> Any:
    """A filter that counts as a step and takes no number that makes something huge."""

    @functools.wraps(filter)
    def counted(*args: Any, **kwargs: Any) -> Any:
        budget = environment.budget
        budget.step()
        if name not in _ANY_NUMBER:
            for value in (*args[1:], *kwargs.values()):
                budget.check_width(value)
        result = filter(*args, **kwargs)
        if isinstance(result, (str, list)):
            budget.make(len(result))
        return result

    return counted
