"""What readers of formats return: a text, and what they left out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Text:
    """The text of a document.

    text: Markdown, as the model will read it.
    left_out: how many things of each kind the text lacks; the kind in the singular ("picture").
    """

    text: str
    left_out: Mapping[str, int] = field(default_factory=dict)


def counted(left_out: Mapping[str, int]) -> str:
    """Return what is left out in words, as in "2 pictures, 1 page header"; "" for nothing."""
    return ", ".join(
        f"{count:,} {kind}{'s' if count > 1 else ''}" for kind, count in left_out.items() if count
    )
