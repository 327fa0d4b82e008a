"""A batch as it is recorded: what was asked for, how far it is, and how it ended. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from l4cli.batch.openai import KINDS

Status = Literal[
    "validating",
    "failed",
    "in_progress",
    "finalizing",
    "completed",
    "expired",
    "cancelling",
    "cancelled",
]
_TIMED = tuple(status for status in get_args(Status) if status != "validating")
ENDPOINTS = tuple(KINDS)
OVER = frozenset({"failed", "completed", "expired", "cancelled"})
CAN_BE_CANCELLED = frozenset({"validating", "in_progress", "cancelling"})
Problem = Mapping[str, Any]  # {"code", "message", "param", "line"}


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch. The names are those of OpenAI's JSON where it has them.

    output_id, error_id: the ids that its results get, if there are any.
    model, model_file: the name of the model that answers, and its file's fingerprint; empty until
        the input was checked.
    total, completed, failed: how many requests there are, and how many were answered so far.
    times: when it came to each status, as "completed_at".
    results: the ids of its results that are there.
    """

    id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    created_at: int
    expires_at: int
    output_id: str
    error_id: str
    metadata: Mapping[str, str] | None = None
    status: Status = "validating"
    model: str = ""
    model_file: str = ""
    total: int = 0
    completed: int = 0
    failed: int = 0
    times: Mapping[str, int] = field(default_factory=dict)
    errors: Sequence[Problem] = ()
    results: Sequence[str] = ()

    @property
    def is_over(self) -> bool:
        return self.status in OVER

    def is_late(self, now: float) -> bool:
        """Whether its time is over."""
        return now >= self.expires_at

    def moved(self, status: Status, now: float, **changes: Any) -> Batch:
        """Return the batch in another status."""
        times = {**self.times, f"{status}_at": int(now)}
        return replace(self, status=status, times=times, **changes)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Batch:
        """Return the batch of a record. TypeError if it is not one."""
        return cls(**value)

    def shown(self) -> dict[str, Any]:
        """Return OpenAI's JSON."""
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "model": self.model or None,
            "errors": {"object": "list", "data": list(self.errors)} if self.errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": self.completion_window,
            "status": self.status,
            "output_file_id": self.output_id if self.output_id in self.results else None,
            "error_file_id": self.error_id if self.error_id in self.results else None,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            **{f"{status}_at": self.times.get(f"{status}_at") for status in _TIMED},
            "request_counts": {
                "total": self.total,
                "completed": self.completed,
                "failed": self.failed,
            },
            "metadata": self.metadata,
        }


def problem(code: str, message: str, line: int | None = None) -> Problem:
    """Return one entry of a batch's `errors`."""
    return {"code": code, "message": message, "param": None, "line": line}
