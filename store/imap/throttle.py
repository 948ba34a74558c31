"""Slows down whoever guesses passwords: a delay that grows with an address's failures, and few guesses at once.

The same for a wrong password and for an unknown user. Memory is bounded: the addresses that failed longest ago are
forgotten first.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import prometheus_client
import structlog

from proxy.limits import address_key

log = structlog.get_logger("imap")

LOGINS = prometheus_client.Counter("bouncetap_imap_logins", "Logins tried.", ["result"])
_THREADS = 2  # hashing is made to be expensive: never more at once
_ADDRESSES = 10_000
_FORGET_S = 900.0


class LoginGuard:
    """Decides over passwords. `verify` blocks (it hashes); it gives a role's name or None."""

    def __init__(
        self, verify: Callable[[str, str], str | None], *, first_delay_s: float = 0.5, longest_delay_s: float = 10.0
    ) -> None:
        self._verify = verify
        self._first_delay_s = first_delay_s
        self._longest_delay_s = longest_delay_s
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="imap-login")
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._turns: dict[str, asyncio.Lock] = {}
        self._waiting: Counter[str] = Counter()  # who has or wants a turn

    async def verify(self, address: str, user: str, password: str) -> str | None:
        """The role of the user, or None after a delay. One try of an address at a time."""
        address = address_key(address)  # whoever has one address of an IPv6 /64 has them all
        turn = self._turns.setdefault(address, asyncio.Lock())
        self._waiting[address] += 1
        try:
            async with turn:
                loop = asyncio.get_running_loop()
                role = await loop.run_in_executor(self._threads, self._verify, user, password)
                LOGINS.labels("ok" if role else "refused").inc()
                if role is None:
                    delay_s = self._failed(address)
                    log.warning("login_failed", peer=address, delay_s=delay_s)
                    await asyncio.sleep(delay_s)
                else:
                    self._failures.pop(address, None)
                return role
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address], self._turns[address]

    def _failed(self, address: str) -> float:
        """Count a failure; gives the delay that it costs."""
        now = time.monotonic()
        count, last = self._failures.pop(address, (0, now))
        count = 1 if now - last > _FORGET_S else count + 1
        self._failures[address] = (count, now)
        while len(self._failures) > _ADDRESSES:
            self._failures.popitem(last=False)
        return min(self._longest_delay_s, self._first_delay_s * 2.0 ** min(count - 1, 30))

    def close(self) -> None:
        """No more logins."""
        self._threads.shutdown(wait=False, cancel_futures=True)
