"""How hard a model is to think, and how much it is to say: what clients wish, and models can do.

A model can do what its chat template can tell it. Clients write OpenAI's own default, "medium",
into requests to any model. It asks for nothing beyond the usual, so every model can do it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from l4cli.errors import InputError, RequestError
from l4cli.openai import fields

if TYPE_CHECKING:
    from l4cli.loading.llm import LLM

USUAL = "medium"
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_VERBOSITIES = ("low", "medium", "high")


def effort(name: str, value: Any) -> bool | str | None:
    """Return what an effort asks for: False for no thinking, a word for how hard; None if missing.

    name: of the field, for the InputError.
    """
    if value is None:
        return None
    if fields.text(name, value) not in _EFFORTS:
        raise InputError(f"{name} must be one of {', '.join(_EFFORTS)}, not {value[:50]!r}")
    return False if value == "none" else str(value)


def verbosity(name: str, value: Any) -> str | None:
    """Return how much a model is to say; None for the usual."""
    if value is not None and fields.text(name, value) not in _VERBOSITIES:
        raise InputError(f"{name} must be one of {', '.join(_VERBOSITIES)}, not {value[:50]!r}")
    return None if value == USUAL else value


def granted(
    llm: LLM, thinks: bool | str | None, verbosity: str | None, field: str, *, lenient: bool
) -> bool | str | None:
    """Return what the model is told about thinking: `thinks` of `LLM.request`.

    thinks: what was wished.
    verbosity: what was wished; no model can be told one.
    field: which says `thinks`, for the RequestError if the model cannot do it.
    lenient: leave out what the model cannot do.
    """
    if verbosity is not None and not lenient:
        raise RequestError(
            f"verbosity: no model here can be told to be {verbosity!r}: leave the field out, and "
            "say in the prompt how long the answer should be"
        )
    if thinks == USUAL and not llm.encoder.takes_effort(USUAL):
        return None
    try:
        llm.encoder_for(thinks)
    except RequestError as error:
        if lenient:
            return None
        raise RequestError(f"{field}: {error}; leave the field out") from None
    return thinks


def granted_or_near(llm: LLM, thinks: bool | str | None, wish: str | None) -> bool | str | None:
    """Return what the model is told about thinking where an effort is no more than a signal.

    thinks: whether it is to think first; None for as it likes.
    wish: how hard. A model that does not know this word gets the next weaker one from "high" on
        that it knows; a model that knows no efforts gets none.
    """
    if thinks is False or wish is None:
        return thinks
    weaker = _EFFORTS[_EFFORTS.index("high") : _EFFORTS.index(wish)]
    for one in (wish, *reversed(weaker)):
        if llm.encoder.takes_effort(one):
            return one
    return thinks
