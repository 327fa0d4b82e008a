"""How much clients may ask for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AskingLimits:
    """How much may be asked at once.

    queue: the most requests that wait for a slot.
    seconds: the longest that a request may take; None for no limit.
    """

    queue: int = 256
    seconds: float | None = None
