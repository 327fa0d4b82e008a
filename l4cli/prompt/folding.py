"""Computes a template's constant expressions when it is compiled, and each part of it once.

Jinja's own optimizer looks at every part again from each level above it. So one chain of 300
attributes takes ten seconds to compile, and a template may have thousands of them.
"""

from __future__ import annotations

from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.optimizer import Optimizer
from jinja2.visitor import NodeTransformer

_MAX_PARTS = 50_000  # of the expressions of a template; those of real models have hundreds


class Folding(Optimizer):
    """An optimizer whose time grows with the length of the template only."""

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._seen: dict[int, nodes.Node] = {}  # by id; the nodes are kept, so no id is used again

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        if id(node) in self._seen:
            return node
        if len(self._seen) > _MAX_PARTS:
            raise TemplateError(f"it has more than {_MAX_PARTS:,} parts")
        result = super().visit(node, *args, **kwargs)
        if isinstance(result, nodes.Node):
            self._seen[id(result)] = result
        return result

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        node = NodeTransformer.generic_visit(self, node, *args, **kwargs)
        if not isinstance(node, nodes.Expr) or not _has_constants_only(node):
            return node
        try:
            value = node.as_const(args[0] if args else None)
            return nodes.Const.from_untrusted(value, node.lineno, self.environment)
        except nodes.Impossible:
            return node


def _has_constants_only(node: nodes.Node) -> bool:
    """Whether all that an expression consists of has been computed already."""
    return all(
        isinstance(child, nodes.Literal)
        or (isinstance(child, nodes.Helper) and _has_constants_only(child))
        for child in node.iter_child_nodes()
    )
