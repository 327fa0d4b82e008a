"""A constraint in llguidance's own words, and llguidance's complaints in ours."""

from __future__ import annotations

import re

from llguidance import LLMatcher, LLParserLimits, grammar_from

from l4cli.engine.types import Constraint

# JSON allows any white space, but a model that has lost its way would then write only that.
_WHITESPACE = r"[ ]?|\n[ ]{0,20}"
_AMPLE = 10**9  # steps of building automata; a document of 100,000 characters takes 10**6
_DRAWING = re.compile(r"\n\s+\d+ \| ")  # a line of the grammar with its number
_PANIC, _BACKTRACE, _STATE = "panic: ", " <backtrace>", " <state>"
_LIMITS = ("fuel", "lexer precomputation failed", "too many expressions", "too many states")


def to_llguidance(constraint: Constraint) -> str:
    """The grammar that llguidance compiles. ValueError, with the reason, if there is none."""
    if constraint.kind in ("lark", "calls"):
        return str(LLMatcher.grammar_from_lark(constraint.source))
    if constraint.kind == "regex":
        return str(LLMatcher.grammar_from_regex(constraint.source))
    if constraint.kind == "grammar":
        return str(grammar_from("gbnf", constraint.source))
    schema = constraint.source if constraint.kind == "json_schema" else '{"type": "object"}'
    return str(
        LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_pattern": _WHITESPACE})
    )


def limits(constraint: Constraint) -> LLParserLimits | None:
    """Limits of compiling: ample for Lark, which l4 writes and which may hold a whole book.

    None means llguidance's own limits, which suit constraints that users write.
    """
    if constraint.kind != "lark":
        return None
    return LLParserLimits(initial_lexer_fuel=_AMPLE, step_lexer_fuel=_AMPLE)


def complaint(error: object) -> str:
    """An error message, which may have many lines and a drawing of the place, as one line.

    Of an invalid regex only the reason is kept: it is long, and the reason comes last.
    """
    text = _DRAWING.split(str(error))[0]
    text = text.rpartition("\nerror: ")[2].rpartition('" (in regex): ')[2]
    text = " ".join(text.split()).split(_STATE)[0] or "it cannot be used"
    if text.startswith(_PANIC):  # a limit that llguidance has not thought of
        text = f"llguidance cannot take it in ({text.removeprefix(_PANIC).split(_BACKTRACE)[0]})"
    elif "maximum recursion depth" in text:
        text = "it is nested too deeply"
    elif any(limit in text for limit in _LIMITS):
        text = f"it is too complex ({text.split(';')[0]})"
    return text if len(text) <= 200 else f"{text[:199]}…"
