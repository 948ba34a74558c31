"""The connections to one host: so many slots, kept-alive connections for whoever holds one, and how long a wait takes.

A slot is the right to use one connection. Live messages come before replays, first come first served among each; a
waiter can be told to give up (its sender has been answered from the journal). The last connection used is used first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.upstream.client import Connection
from proxy.upstream.connect import Connector, DownError
from proxy.upstream.identity import Client

RETIRE_TRANSACTIONS = 100
RETIRE_IDLE_S = 60.0
_EWMA_WEIGHT = 0.2


class GaveUpError(Exception):
    """The ticket's owner does not want to wait any longer."""


@dataclass(slots=True, eq=False)
class Ticket:
    """One message's way through the pool. `live` goes before replays; `hurry` means: never wait for a slot."""

    live: bool = True
    hurry: bool = False
    waiter: asyncio.Future[float] | None = field(default=None, repr=False)

    def give_up(self) -> None:
        """Wait for no slot from now on; whoever has one already goes on."""
        self.hurry = True
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(GaveUpError())


class Pool:
    """`size` slots to the host of `connector`; `clock` is monotonic, in seconds."""

    def __init__(self, connector: Connector, size: int, clock: Callable[[], float]) -> None:
        self._connector = connector
        self._size = max(1, size)
        self._clock = clock
        self._idle: list[Connection] = []
        self._in_use: set[Connection] = set()
        self._busy = 0
        self._started_sum = 0.0
        self._waiting: tuple[deque[Ticket], deque[Ticket]] = (deque(), deque())  # live, replays
        self._mean_s = 0.0
        self._closed = False

    # -- slots

    @property
    def full(self) -> bool:
        """True if whoever comes now must wait."""
        return self._busy >= self._size

    def wait_s(self) -> float:
        """An estimate of how long a live message would wait for a slot.

        By what transactions took of late, or by how long those under way take already, if that is more.
        """
        if not self.full:
            return 0.0
        age_s = self._clock() - self._started_sum / self._busy
        return (len(self._waiting[0]) + 1) * max(self._mean_s, age_s) / self._size

    async def enter(self, ticket: Ticket) -> float:
        """Take a slot, waiting if need be; returns what `leave` wants. Raises GaveUpError."""
        if self.full:
            if ticket.hurry:
                raise GaveUpError
            queue = self._waiting[0 if ticket.live else 1]
            ticket.waiter = asyncio.get_running_loop().create_future()
            queue.append(ticket)
            try:
                return await ticket.waiter
            except BaseException:
                if ticket in queue:
                    queue.remove(ticket)
                elif not ticket.waiter.cancelled() and ticket.waiter.exception() is None:
                    self.leave(ticket.waiter.result(), completed=False)  # it came just as we were cancelled
                raise
            finally:
                ticket.waiter = None
        self._busy += 1
        return self._begin()

    def _begin(self) -> float:
        started = self._clock()
        self._started_sum += started
        return started

    def leave(self, started: float, *, completed: bool) -> None:
        """Give the slot back; a completed transaction counts for the estimate."""
        self._started_sum -= started
        if completed:
            self._mean_s += _EWMA_WEIGHT * (self._clock() - started - self._mean_s)
        self._hand_on()

    def _hand_on(self) -> None:
        for queue in self._waiting:
            while queue:
                waiter = queue.popleft().waiter
                if waiter is not None and not waiter.done():
                    waiter.set_result(self._begin())
                    return
        self._busy -= 1

    # -- connections

    async def connection(self, client: Client | None, *, fresh: bool = False) -> Connection:
        """A connection that speaks for `client` (None: nobody in particular); a new one if none fits, or if `fresh`.

        The caller holds a slot, and gives the connection back by `keep` unless it broke. Raises DownError.
        """
        if self._closed:
            raise DownError("closing down")
        found = None if fresh else self._kept(client)
        connection = found or await self._connector.connect(client)
        self._in_use.add(connection)
        return connection

    def _kept(self, client: Client | None) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.usable:
                continue
            if client is None or connection.client == client:
                return connection
            connection.quit()
        return None

    def keep(self, connection: Connection) -> None:
        """The transaction is over: keep the connection for another, if it can be used again."""
        self._in_use.discard(connection)
        if connection.transactions >= RETIRE_TRANSACTIONS or len(self._idle) >= self._size:
            connection.quit()
        elif connection.usable:
            connection.idle_since = self._clock()
            self._idle.append(connection)

    def drop(self, connection: Connection) -> None:
        """It is of no use any more."""
        self._in_use.discard(connection)
        connection.abort()

    def retire(self) -> None:
        """Every second or so: close what has long been idle."""
        oldest = self._clock() - RETIRE_IDLE_S
        for connection in self._idle:
            if connection.idle_since < oldest:
                connection.quit()
        self._idle = [connection for connection in self._idle if connection.usable]

    def close(self) -> None:
        """Say goodbye to the idle, cut off the rest: their transactions end with LostError."""
        self._closed = True
        for connection in self._idle:
            connection.quit()
        for connection in list(self._in_use):
            connection.abort()
        self._idle.clear()

    def status(self) -> dict[str, int]:
        """JSON-able."""
        return {"busy": self._busy, "idle": len(self._idle), "waiting": sum(map(len, self._waiting))}
