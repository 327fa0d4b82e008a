"""The sampling settings that /set knows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from l4cli.errors import UsageError
from l4cli.near import nearest

# Fields of SamplingParams, and the function that parses each one's value.
SETTINGS: Mapping[str, Callable[[str], float]] = {
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "min_p": float,
    "repetition_penalty": float,
    "frequency_penalty": float,
    "presence_penalty": float,
    "seed": int,
    "max_tokens": int,
}


def changed(settings: Mapping[str, float], name: str, value: str) -> dict[str, float]:
    """Return the settings with `name` set to `value`, or removed if `value` is "default".

    UsageError for an unknown name, or a value that is not a number.
    """
    if name not in SETTINGS:
        near = nearest(name, SETTINGS)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(SETTINGS)}"
        raise UsageError(f"no setting {name!r}; {hint}")
    others = {key: old for key, old in settings.items() if key != name}
    if value == "default":
        return others
    try:
        return {**others, name: SETTINGS[name](value)}
    except ValueError:
        raise UsageError(f"{name} must be a number or `default`, not {value!r}") from None
