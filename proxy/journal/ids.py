"""Message ids: 26 characters that are globally unique, sort by time, and never go backwards in one process.

The layout is that of a ULID: 48 bits of Unix time in milliseconds, 80 random bits, in Crockford's base 32. Within a
millisecond, or while the clock stands still or steps back, the previous id is counted up instead.
"""

from __future__ import annotations

import random
import secrets
import threading
import time

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [high + low for high in ALPHABET for low in ALPHABET]
_SHIFTS = range(120, -1, -10)
_RANDOM_BITS = 80
_SPARE_BITS = 8  # of the random part, left clear at the start so that counting up cannot overflow soon


class IdSource:
    """Makes ids; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next(self, now_ns: int) -> str:
        """The id for something that happened at `now_ns`: greater than every id given before."""
        now_ms = now_ns // 1_000_000
        with self._lock:
            if now_ms <= self._last >> _RANDOM_BITS:  # the rest of the number is random enough already
                fresh = self._last + 1 + random.getrandbits(32)
            else:
                fresh = now_ms << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS - _SPARE_BITS)
            self._last = fresh
        return encode(fresh)


def encode(number: int) -> str:
    """A 128-bit number in 26 characters."""
    return "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])


def time_ns(ident: str) -> int:
    """When an id was made: Unix time in ns, exact to a millisecond. Raises ValueError for what is no id."""
    number = 0
    for character in ident:
        number = number << 5 | ALPHABET.index(character)
    return (number >> _RANDOM_BITS) * 1_000_000


_source = IdSource()


def new_id(now_ns: int | None = None) -> str:
    """A new id, by default for now."""
    return _source.next(time.time_ns() if now_ns is None else now_ns)
