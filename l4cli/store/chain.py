"""Which parts a prefix is stored in, and their names. Pure.

A prefix of n tokens is whole blocks of 8192 tokens and a tail of 1 to 8192. A part's name says what
came before it: the digest of a block covers its tokens and the digest of all blocks before. So two
texts with the same beginning have their first blocks in common, and the longest stored prefix is
found by looking for one name after another.

Parts computed in the pieces of `Prefixes.prefill` are `exact`: another run gives the same bits.
Others (a conversation's, computed as it went) are right too, but rounded differently.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from l4cli.engine.pieces import BLOCK

MIN_TAIL = 64  # tokens; fewer are computed as fast as they are loaded
SUFFIX = ".state"
_KINDS = {(True, True): "block", (True, False): "block~", (False, True): "tail"}
_KINDS |= {(False, False): "tail~"}  # by is_block, exact


@dataclass(frozen=True, slots=True)
class Part:
    """Tokens `start` to `stop` of a prefix; `before` is the digest of what precedes them.

    A block lacks the keys of its own chunk, which nobody needs beyond its end: it serves whole. A
    tail serves up to any of its tokens.
    """

    before: str
    digest: str
    start: int
    stop: int
    is_block: bool
    exact: bool

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.before}-{self.digest}-{_KINDS[self.is_block, self.exact]}{SUFFIX}"


def blocks(tokens: Sequence[int], *, exact: bool) -> Iterator[Part]:
    """The whole blocks of a prefix, also one that ends where the prefix does."""
    before = FIRST
    for stop in range(BLOCK, len(tokens) + 1, BLOCK):
        digest = _digest(before, tokens[stop - BLOCK : stop])
        yield Part(before, digest, stop - BLOCK, stop, True, exact)
        before = digest


def parts(tokens: Sequence[int], *, exact: bool) -> list[Part]:
    """What a prefix is stored in: blocks that are followed by something, and a tail of the rest."""
    whole = list(blocks(tokens[:-1], exact=exact))
    before, start = (whole[-1].digest, whole[-1].stop) if whole else (FIRST, 0)
    return [*whole, tail(before, start, tokens[start:], exact=exact)]


def tail(before: str, start: int, tokens: Sequence[int], *, exact: bool) -> Part:
    """The part that holds `tokens` behind `start` others."""
    digest = _digest(before, tokens)
    return Part(before, digest, start, start + len(tokens), False, exact)


def tails(names: Iterable[str], before: str) -> Iterator[tuple[str, bool]]:
    """Of files' names those of tails that follow `before`, and whether they are exact."""
    for name in names:
        for exact in (True, False):
            if name.startswith(before) and name.endswith(f"-{_KINDS[False, exact]}{SUFFIX}"):
                yield name, exact


def _digest(before: str, tokens: Sequence[int]) -> str:
    ids = array("i", tokens).tobytes()
    return hashlib.blake2b(before.encode() + ids, digest_size=16).hexdigest()


FIRST = _digest("", [])
