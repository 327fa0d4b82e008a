"""The segments that a prefix is stored in, and their file names. Pure.

A prefix of n tokens is stored as whole segments of 8192 tokens each and a tail of 1 to 8192. The
digest in a segment's name covers its tokens and the digest of all segments before it. So two texts
with the same beginning share their first segments, and the longest stored prefix is found by
looking for one name after another.

Segments computed in the pieces of `Prefixes.prefill` are `exact`: another run gives the same bits.
Others (a conversation's, computed turn by turn) are correct too, but rounded differently.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from l4cli.engine.pieces import SEGMENT_TOKENS

MIN_TAIL = 64  # tokens; fewer are computed as fast as they are loaded
SUFFIX = ".state"
_KINDS = {(True, True): "block", (True, False): "block~", (False, True): "tail"}
_KINDS |= {(False, False): "tail~"}  # the keys are (is_whole, exact)


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens `start` to `stop` of a prefix; `before` is the digest of the earlier ones.

    A whole segment is stored without the keys of its own attention chunk, because no later token
    attends to them: it can only be used as a whole. A tail can be used up to any of its tokens.
    """

    before: str
    digest: str
    start: int
    stop: int
    is_whole: bool
    exact: bool

    @property
    def name(self) -> str:
        """The name of the segment's file."""
        return f"{self.before}-{self.digest}-{_KINDS[self.is_whole, self.exact]}{SUFFIX}"


def whole_segments(tokens: Sequence[int], *, exact: bool) -> Iterator[Segment]:
    """The whole segments of a prefix, including one that ends where the prefix does."""
    before = FIRST
    for stop in range(SEGMENT_TOKENS, len(tokens) + 1, SEGMENT_TOKENS):
        digest = _digest(before, tokens[stop - SEGMENT_TOKENS : stop])
        yield Segment(before, digest, stop - SEGMENT_TOKENS, stop, True, exact)
        before = digest


def segments(tokens: Sequence[int], *, exact: bool) -> list[Segment]:
    """The segments a prefix is stored in: whole ones that another token follows, then the tail."""
    whole = list(whole_segments(tokens[:-1], exact=exact))
    before, start = (whole[-1].digest, whole[-1].stop) if whole else (FIRST, 0)
    return [*whole, tail(before, start, tokens[start:], exact=exact)]


def tail(before: str, start: int, tokens: Sequence[int], *, exact: bool) -> Segment:
    """The segment that holds `tokens` after `start` others."""
    digest = _digest(before, tokens)
    return Segment(before, digest, start, start + len(tokens), False, exact)


def tails(names: Iterable[str], before: str) -> Iterator[tuple[str, bool]]:
    """The file names that are tails after `before`, each with whether the tail is exact."""
    for name in names:
        for exact in (True, False):
            if name.startswith(before) and name.endswith(f"-{_KINDS[False, exact]}{SUFFIX}"):
                yield name, exact


def _digest(before: str, tokens: Sequence[int]) -> str:
    ids = array("i", tokens).tobytes()
    return hashlib.blake2b(before.encode() + ids, digest_size=16).hexdigest()


FIRST = _digest("", [])
