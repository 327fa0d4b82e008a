"""Lines that show a state in the width of the terminal. Pure."""

from __future__ import annotations

from l4cli.amounts import roughly


def bar_text(
    width: int,
    model: str,
    num_tokens: int,
    n_ctx: int,
    generation_tps: float | None = None,
    note: str = "",
) -> str:
    """Return the bar's text, at most `width` columns.

    The parts that fit are chosen in this order: tokens used, the note, the rate, the model's name.
    `note` is a hint or warning, such as that the context is nearly full.
    """
    used = f"{num_tokens:,} of {n_ctx:,} tokens"
    if len(used) > width:
        used = f"{num_tokens}/{n_ctx}"
    rate = f"{generation_tps:.1f} tokens/s" if generation_tps else ""
    chosen = {used}
    for part in (note, rate, model):
        if part and len(_joined([*chosen, part])) <= width:
            chosen.add(part)
    return _joined([part for part in (model, used, rate, note) if part in chosen])[:width]


def reading_text(width: int, done: int, total: int, seconds: float | None = None) -> str:
    """Return a line, at most `width` columns, for `done` of `total` tokens of a prompt.

    total: 0 if it is not known yet.
    seconds: how long reading the rest takes; None if unknown.
    """
    if not total:
        return "…"
    left = "" if seconds is None else f", {roughly(seconds)} left"
    counts = f"{done:,} of {total:,} tokens"
    lines = (f"reading the prompt: {counts}{left}", f"reading: {counts}{left}", f"{counts}{left}")
    return next((line for line in lines if len(line) <= width), counts[:width])


def _joined(parts: list[str]) -> str:
    return " · ".join(parts)
