"""Limits how many keys an address can try out."""

from __future__ import annotations

import hashlib
import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

MOST_GUESSES, WINDOW = 10, 60.0  # different wrong keys of an address, in so many seconds
_MOST_ADDRESSES = 1024
_NETWORK = 64  # bits of an IPv6 address: one customer has all addresses of such a network


class Guesses:
    """The wrong keys that came lately, for as many addresses as are remembered.

    A client that sends the same wrong key again and again learns nothing by it. So only different
    keys count, and a client with an old key does not lock out the others at its address.

    now: the time in seconds, from any point.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        # For each address the times of its wrong keys by their digests; the latest address is last.
        self._wrong: OrderedDict[str, dict[bytes, float]] = OrderedDict()

    def seconds_to_wait(self, address: str) -> int:
        """Return in how many seconds an address may try another key; 0 for now."""
        wrong = self._lately(_place(address))
        if len(wrong) < MOST_GUESSES:
            return 0
        return max(1, math.ceil(min(wrong.values()) + WINDOW - self._now()))

    def add(self, address: str, key: bytes) -> None:
        """Note a wrong key. A key that is noted already keeps its time."""
        place = _place(address)
        wrong = self._lately(place)
        wrong.setdefault(hashlib.blake2b(key, digest_size=8).digest(), self._now())
        self._wrong[place] = wrong
        self._wrong.move_to_end(place)
        if len(self._wrong) > _MOST_ADDRESSES:
            self._wrong.popitem(last=False)

    def _lately(self, place: str) -> dict[bytes, float]:
        since = self._now() - WINDOW
        wrong = self._wrong.get(place, {})
        return {key: at for key, at in wrong.items() if at > since}


def _place(address: str) -> str:
    """Return the address, or the network of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address) or parsed.ipv4_mapped:
        return str(getattr(parsed, "ipv4_mapped", None) or parsed)
    return str(ipaddress.ip_network((parsed, _NETWORK), strict=False))
