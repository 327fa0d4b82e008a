"""How much clients may ask for."""

from __future__ import annotations

from dataclasses import dataclass

from l4cli.serve.errors import ApiError


@dataclass(frozen=True, slots=True)
class AskingLimits:
    """How much may be asked at once.

    queue: the most requests that wait for a slot.
    seconds: the longest that a request may take; None for no limit.
    """

    queue: int = 256
    seconds: float | None = None

    def full(self, what: str) -> ApiError:
        """Return the error of a request that would be one too many of `what`."""
        return ApiError(
            503,
            f"{self.queue} {what} wait already: try again later, or start l4 serve with a larger "
            "--queue",
            code="queue_full",
            headers={"Retry-After": "1"},
        )

    def late(self, way_out: str) -> ApiError:
        """Return the error of a request that takes longer than it may."""
        return ApiError(
            504,
            f"not finished within --timeout of {self.seconds:g} s: {way_out}",
            code="timeout",
        )
