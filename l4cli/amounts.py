"""Formats sizes, times and counts for people, with one rounding rule for each.

Sizes of memory and of files are in units of 1024 (KiB, MiB, GiB) everywhere, so that they can be
compared. All functions here are pure.
"""

from __future__ import annotations

NOT_MEASURED = "unknown; `l4 bench MODEL` measures the speed"  # in place of an estimated time
GIB = 1 << 30
_K, _M = 1 << 10, 1 << 20


def human_size(n_bytes: float) -> str:
    """A size in the unit that suits it: 512 B, 585.9 KiB, 1.2 MiB, 60.9 GiB."""
    value = float(n_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if round(abs(value), 1) < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def gib(n_bytes: float) -> str:
    """Memory in GiB (1024**3 bytes): 60.9 GiB."""
    return f"{gib_figure(n_bytes)} GiB"


def gib_figure(n_bytes: float) -> str:
    """Memory in GiB without the unit, for table columns: 1129, 60.9, 0.26."""
    value = n_bytes / GIB
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 1 else 2
    return f"{value:.{digits}f}"


def counted(number: int, noun: str) -> str:
    """A number of things: 1 question, 2,000 questions."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """A measured or remaining time: 4.2 s, 3:07 min or 1:02:33."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d} min"


def roughly(seconds: float) -> str:
    """An estimated time: about 12 s, about 25 min, about 1.5 h."""
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def tokens(n: int) -> str:
    """A number of tokens: 128k or 10M (units of 1024) if it is round, else in full: 5,000."""
    if n >= _M and n % _M == 0:
        return f"{n // _M}M"
    if n >= _K and n % _K == 0:
        return f"{n // _K}k"
    return f"{n:,}"


def rounded_tokens(n: int) -> str:
    """A number of tokens rounded down to two or three digits: 480k, 6.2M."""
    if n >= 10 * _M:
        return f"{n // _M}M"
    if n >= _M:
        return f"{n * 10 // _M / 10:g}M"
    return f"{n // _K}k" if n >= _K else str(n)
