"""The alarm for mail that goes in circles without growing a Received field: the same message again and again.

Byte-identical submissions (envelope and body) within ten minutes are counted; nothing is ever refused for it. Memory
is bounded: of very many different messages only the latest are remembered, and a loop comes back soon.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

WINDOW_S = 600.0
LIMIT = 5
REMEMBERED = 50_000


class LoopGuard:
    """`clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.alarms = 0
        self._clock = clock
        self._seen: OrderedDict[bytes, tuple[float, int]] = OrderedDict()  # since when, how often

    def seen(self, digest: bytes) -> bool:
        """Count a submission; True, once a window, when it has come more than five times within ten minutes."""
        key, now = digest[:12], self._clock()
        since, count = self._seen.pop(key, (now, 0))
        if now - since > WINDOW_S:
            since, count = now, 0
        self._seen[key] = since, count + 1
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        if count + 1 != LIMIT + 1:
            return False
        self.alarms += 1
        return True
