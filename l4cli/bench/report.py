"""The results of a bench, as a table and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from l4cli.amounts import human_size, tokens
from l4cli.bench.machine import Memory
from l4cli.bench.measure import Timing

COLUMNS = ("", "BATCH", "DEPTH", "TOKENS/S", "EACH", "±")
_WIDTHS = (8, 5, 7, 9, 8, 4)
_GAP = 2


def rows(timings: Sequence[Timing], *, width: int | None) -> list[list[str]]:
    """Return the rows of a table.

    width: the terminal's columns; each row then ends in a bar that fills the rest of its line. The
        longest bars are the greatest rates of prefill and of decode. None: no bars.
    """
    room = width - sum(_WIDTHS) - _GAP * len(_WIDTHS) - 1 if width else 0
    best = {kind: max(t.tps for t in timings if t.point.kind == kind) for kind in _kinds(timings)}
    several = len({timing.n_ubatch for timing in timings}) > 1
    found = []
    for timing in timings:
        point = timing.point
        cells = (
            f"{point.kind}{f' @{timing.n_ubatch}' if several and point.kind == 'prefill' else ''}",
            str(point.batch),
            tokens(point.depth),
            _rate(timing.tps),
            _rate(timing.tps / point.batch),
            f"{timing.spread:.0%}",
        )
        bar = "#" * round(room * timing.tps / best[point.kind]) if room > 0 else ""
        first, *numbers = (
            cell.ljust(size) if index == 0 else cell.rjust(size)
            for index, (cell, size) in enumerate(zip(cells, _WIDTHS, strict=True))
        )
        found.append([first, *numbers, *([bar] if room > 0 else [])])
    return found


def columns(*, with_bar: bool) -> list[str]:
    """Return the headings of `rows`, aligned to the right."""
    headings = [name.rjust(size) for name, size in zip(COLUMNS, _WIDTHS, strict=True)]
    return [*headings, *([""] if with_bar else [])]


def memory_line(memories: Sequence[Memory]) -> str | None:
    """Return a line on the memory of the largest context, planned and taken; None if unknown.

    The mapped file does not count.
    """
    known = [memory for memory in memories if memory.planned or memory.taken]
    if not known:
        return None
    largest = max(known, key=lambda memory: memory.n_ctx)
    parts = []
    if largest.planned and largest.planned_to_take is not None:
        kv = human_size(largest.planned.kv)
        parts.append(f"{human_size(largest.planned_to_take)} planned (KV cache {kv})")
    if largest.taken is not None:
        parts.append(f"{human_size(largest.taken)} taken")
    return f"memory at {tokens(largest.n_ctx)} tokens: {', '.join(parts)}"


def memory_json(memories: Sequence[Memory]) -> list[dict[str, Any]]:
    """Return the memory of each context, in bytes."""
    return [
        {
            "n_ctx": memory.n_ctx,
            "planned": {**asdict(use), "total": use.total} if (use := memory.planned) else None,
            "planned_to_take": memory.planned_to_take,
            "taken": memory.taken,
        }
        for memory in memories
    ]


def as_json(timings: Sequence[Timing]) -> dict[str, Any]:
    """Return all timings, by kind, with the seconds of each repeat."""
    return {
        "prefill": [
            {
                "depth": timing.point.depth,
                "n_ubatch": timing.n_ubatch,
                "n_tokens": timing.num_tokens,
                **_figures(timing),
            }
            for timing in timings
            if timing.point.kind == "prefill"
        ],
        "decode": [
            {
                "batch": timing.point.batch,
                "depth": timing.point.depth,
                "n_tokens": timing.num_tokens,
                **_figures(timing),
            }
            for timing in timings
            if timing.point.kind == "decode"
        ],
    }


def _figures(timing: Timing) -> dict[str, Any]:
    return {
        "tokens_per_second": round(timing.tps, 3),
        "spread": round(timing.spread, 4),
        "seconds": [round(seconds, 6) for seconds in timing.seconds],
    }


def _kinds(timings: Sequence[Timing]) -> set[str]:
    return {timing.point.kind for timing in timings}


def _rate(tps: float) -> str:
    return f"{tps:.0f}" if tps >= 1000 else f"{tps:.1f}" if tps >= 10 else f"{tps:.2f}"
