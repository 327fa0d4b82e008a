"""What `l4 eval`, `l4 experts` and `l4 imatrix` take alike: they read texts in chunks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from l4cli.errors import UsageError

DEFAULT_CTX = 512  # tokens of a chunk, as in llama-perplexity and llama-imatrix
_LEAST_CTX = 8


def check(ctx: int | None) -> None:
    """Raise UsageError if a chunk of --ctx tokens would be too short."""
    if ctx is not None and ctx < _LEAST_CTX:
        raise UsageError(f"--ctx must be at least {_LEAST_CTX}, not {ctx}")


def refuse_beyond(ctx: int | None, trained: int, name: str) -> None:
    """Raise UsageError if --ctx is more than the model of this name was trained for.

    trained: in tokens; 0 if it is not known.
    """
    if ctx and trained and ctx > trained:
        raise UsageError(
            f"--ctx {ctx:,} is more than the {trained:,} tokens that {name} was trained for"
        )


def length(ctx: int | None, trained: int) -> int:
    """Return the tokens of a chunk: --ctx, or else `DEFAULT_CTX` or what the model takes.

    trained: tokens that the model was trained for; 0 if that is not known.
    """
    return ctx or min(DEFAULT_CTX, trained or DEFAULT_CTX)


def models_asked(models: Sequence[str] | None) -> list[str | None]:
    """Return the models that the command names, else that of $L4_MODEL; None is the default one.

    A list has no variable of its own: typer would cut a path with blanks into several.
    """
    return [*models] if models else [os.environ.get("L4_MODEL") or None]


def options_given(values: Mapping[str, object]) -> list[str]:
    """Return the options that have a value, as a user writes them.

    values: by the names of the parameters; None, False and an empty list are no value, 0 is one.
    """
    return [
        f"--{name.replace('_', '-')}"
        for name, value in values.items()
        if value is not None and value is not False and value != []
    ]
