"""The circuit breaker of one host: after five failures in a row it is left alone but for one probe a second."""

from __future__ import annotations

from collections.abc import Callable

THRESHOLD = 5
PROBE_INTERVAL_S = 1.0


class Breaker:
    """Counts failures in a row. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float], *, probe_interval_s: float = PROBE_INTERVAL_S) -> None:
        self.failures = 0
        self._clock = clock
        self._interval_s = probe_interval_s
        self._probe_at = 0.0

    @property
    def open(self) -> bool:
        """True while the host is taken to be down."""
        return self.failures >= THRESHOLD

    def wait_s(self) -> float:
        """How long until somebody may try this host: 0 if now."""
        return max(0.0, self._probe_at - self._clock()) if self.open else 0.0

    def admit(self) -> bool:
        """Whether the caller may try now; where the breaker is open, it takes this second's probe by that.

        A probe that hangs does not hold up the next: the pool's slots bound how many there are.
        """
        if self.wait_s() > 0:
            return False
        if self.open:
            self._probe_at = self._clock() + self._interval_s
        return True

    def untried(self) -> None:
        """Whoever was admitted did not find out: let another one try."""
        self._probe_at = 0.0

    def success(self) -> None:
        """The host completed a transaction, whatever it answered."""
        self.failures = 0

    def failure(self) -> None:
        """It refused a connection, lost it, said 421, or was silent for too long."""
        self.failures += 1
        if self.failures == THRESHOLD:
            self._probe_at = self._clock() + self._interval_s
