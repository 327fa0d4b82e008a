"""Compiled constraints are shared by requests with equal ones, and do not fill the memory."""

from __future__ import annotations

import pytest

from l4cli.engine.llamacpp import LlamaModel
from l4cli.engine.llamacpp.constraint import Compiler
from l4cli.engine.types import Constraint


@pytest.fixture
def compiled(model: LlamaModel, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sources that a new compiler has compiled so far."""
    sources: list[str] = []
    compile = Compiler._compile

    def noted(self: Compiler, constraint: Constraint) -> object:
        sources.append(constraint.source)
        return compile(self, constraint)

    monkeypatch.setattr(Compiler, "_compile", noted)
    return sources


def test_equal_constraints_are_compiled_once(model: LlamaModel, compiled: list[str]) -> None:
    compiler = Compiler(model)
    for source in ("a|b", "[0-9]+", "a|b", "[0-9]+", "a|b"):
        compiler.matcher(Constraint("regex", source))
    assert compiled == ["a|b", "[0-9]+"]


def test_of_long_ones_only_the_last_are_kept(model: LlamaModel, compiled: list[str]) -> None:
    compiler = Compiler(model)
    long = [Constraint("regex", f"{n}|" + "ab" * 15_000) for n in range(10)]
    for constraint in (*long, *reversed(long)):
        compiler.matcher(constraint)
    assert len(compiled) == 14  # the last six were kept: 200,000 characters


def test_one_that_is_longer_than_all_that_may_be_kept_is_shared(
    model: LlamaModel, compiled: list[str]
) -> None:
    compiler = Compiler(model)
    huge = Constraint(
        "lark", f"start: {' | '.join(f'{chr(34)}word{n}{chr(34)}' for n in range(20_000))}"
    )
    assert len(huge.source) > 200_000
    for _ in range(3):
        compiler.matcher(huge)
    assert len(compiled) == 1
