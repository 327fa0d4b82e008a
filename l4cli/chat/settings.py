"""The sampling settings that /set knows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from l4cli.errors import UsageError

# SamplingParams' fields, and how their values are written.
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
    """Settings with one more given, or with `default` one less; UsageError for unknown ones."""
    if name not in SETTINGS:
        raise UsageError(f"no setting {name!r}; there are {', '.join(SETTINGS)}")
    others = {key: old for key, old in settings.items() if key != name}
    if value == "default":
        return others
    try:
        return {**others, name: SETTINGS[name](value)}
    except ValueError:
        raise UsageError(f"{name} must be a number or `default`, not {value!r}") from None
