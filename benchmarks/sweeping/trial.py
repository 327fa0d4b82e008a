"""What a kind of members is, and how the trial of one ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

EXIT_UNSOUND = 3  # of a worker: a member ended in an exception, which is reported


@dataclass(frozen=True)
class Ended:
    """How the members of one trial ended.

    num_fine, num_refused: how many did their work, and how many ended in a clear error.
    finding: what is wrong with one of them; "" if nothing is.
    """

    num_fine: int = 0
    num_refused: int = 0
    finding: str = ""


FINE, REFUSED = Ended(num_fine=1), Ended(num_refused=1)
Trial = Callable[[int], Ended]  # tries the members with this seed


@dataclass(frozen=True)
class Kind:
    """A kind of members.

    about: what the members are and what is done with each, in a line.
    prepare: makes what the trials share, in a folder of their own, and returns the trial.
    num_members: how many members one seed makes.
    most_seconds: how long a trial may take.
    """

    about: str
    prepare: Callable[[Path], Trial]
    num_members: int = 1
    most_seconds: float = 10
