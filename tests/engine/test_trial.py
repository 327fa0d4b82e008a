"""Constraints that take too much time, memory or stack are refused, and can be interrupted."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from l4cli.engine.guidance.trial import Trials
from l4cli.engine.types import CompileAbortedError, Constraint
from l4cli.errors import RequestError

# They take a second of computing, and a minute.
CHAIN = "root ::= r0\n" + "\n".join(f"r{n} ::= r{n + 1}" for n in range(2500)) + '\nr2500 ::= "b"'
ENDLESS = Constraint("regex", "a*" * 50_000)


@pytest.fixture(scope="module")
def trials() -> Iterator[Trials]:
    trials = Trials()
    yield trials
    trials.close()


@pytest.mark.parametrize(
    ("kind", "source", "complaint"),
    [
        ("regex", "((a{1000}){1000})", "it is too complex"),
        ("json_schema", '{"type": "integer", "multipleOf": 1000000007}', "it is too complex"),
        ("regex", "(" * 10_000 + ")" * 10_000, "nested parentheses"),
        ("grammar", CHAIN, "nested too deeply, or has too long a chain of rules"),
        ("grammar", f"root ::= {'(' * 900}{')' * 900}", "it is nested too deeply"),
        ("grammar", "root ::= " + '"a"* ' * 40_000, "llguidance cannot take it in"),
    ],
)
def test_what_cannot_be_compiled_is_refused(
    trials: Trials, kind: str, source: str, complaint: str
) -> None:
    with pytest.raises(RequestError, match=complaint):
        trials.grammar(Constraint(kind, source))
    assert trials.grammar(Constraint("regex", "a")), "the next one is compiled"


@pytest.mark.parametrize("source", ["a{30000}", "a" * 30_000])
def test_what_is_only_long_is_compiled(trials: Trials, source: str) -> None:
    assert trials.grammar(Constraint("regex", source))


@pytest.mark.slow
def test_what_takes_too_long_is_refused(trials: Trials) -> None:
    with pytest.raises(RequestError, match=r"it takes (too long|more than 2 GiB)"):
        trials.grammar(ENDLESS)


def test_an_interrupt_ends_a_trial(trials: Trials) -> None:
    timer = threading.Timer(0.3, trials.interrupt)
    timer.start()
    with pytest.raises(CompileAbortedError):
        trials.grammar(ENDLESS)
    timer.join()
    trials.interrupt()  # there is none under way: the next is not affected
    assert trials.grammar(Constraint("regex", "a"))
