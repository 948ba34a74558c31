"""What the sender has its 250 for and the handler does not have yet: tried again until it has, oldest first.

Only ids and open recipients are kept here; bodies come from the journal when their turn comes. A message that the
handler answered with 4xx, or broke off at, waits by itself (1 s to 5 min, jittered); where no host can be reached,
nothing is tried but the probes that the breakers let through, with the oldest message.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from prometheus_client import Gauge

from proxy.errors import CommandError
from proxy.journal import Entry, Fate, JournalError, JournalWriter, OpenEntry
from proxy.marks import Marks, last_reply
from proxy.outcome import NOT_CAPABLE, Outcome, unaddressed
from proxy.settings import Legacy
from proxy.upstream.hosts import Host, Hosts, Parcel
from proxy.upstream.pool import Ticket

SPOOL_MESSAGES = Gauge("bouncetap_proxy_spool_messages", "Messages that wait for the handler")
SPOOL_BYTES = Gauge("bouncetap_proxy_spool_bytes", "Their bodies' size")
SPOOL_AGE = Gauge("bouncetap_proxy_spool_oldest_seconds", "Age of the oldest of them")
POLL_S = 1.0
LISTED = 10_000

log = structlog.get_logger("proxy")


@dataclass(slots=True, eq=False)
class Spooled:
    """One waiting message. `rcpts` are the indices of its open recipients, `doubt` the host that may have it, or ""."""

    id: str
    received_ns: int
    size_bytes: int
    rcpts: tuple[int, ...]
    doubt: str = ""
    last: str = ""
    attempts: int = 0
    due_at: float = 0.0
    running: bool = False

    @classmethod
    def of(cls, entry: OpenEntry) -> Spooled:
        """As an earlier life left it."""
        rcpts = tuple(i for i, fate in enumerate(entry.fates) if fate in {Fate.OPEN, Fate.IN_DOUBT})
        doubt = next((entry.hosts[i] for i in rcpts if entry.fates[i] is Fate.IN_DOUBT), "")
        return cls(entry.id, entry.received_ns, entry.size_bytes, rcpts, doubt)


class Spool:
    """`parcel` makes what is sent of an entry and the indices of the recipients concerned."""

    def __init__(
        self,
        journal: JournalWriter,
        hosts: Hosts,
        marks: Marks,
        legacy: Legacy,
        parcel: Callable[[Entry, tuple[int, ...]], Parcel],
    ) -> None:
        self.bytes = 0
        self.in_doubt = 0
        self._journal = journal
        self._hosts = hosts
        self._marks = marks
        self._legacy = legacy
        self._parcel = parcel
        self._items: dict[str, Spooled] = {}
        self._ages: list[str] = []  # heap of ids, those of messages that are gone included
        self._due: list[str] = []  # heap of ids: oldest first
        self._later: list[tuple[float, str]] = []  # heap by time
        self._pause_until = 0.0  # no host was reached the last time
        self._wake = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Outcome | None]] = set()

    # -- life

    def start(self) -> None:
        """Begin to replay."""
        self._loop_task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Begin no more; what runs is ended by closing its connection."""
        if self._loop_task is not None:
            self._loop_task.cancel()
            await asyncio.gather(self._loop_task, return_exceptions=True)

    async def finished(self) -> None:
        """Wait for the replays under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def add(self, item: Spooled) -> None:
        """Take over a message; it is tried after a first pause."""
        if item.id in self._items or not item.rcpts:
            return
        self._items[item.id] = item
        heapq.heappush(self._ages, item.id)
        self.bytes += item.size_bytes
        self.in_doubt += bool(item.doubt)
        self._postpone(item)
        self._wake.set()

    def adopt(self, item: Spooled) -> None:
        """Take over a message of an earlier life: it has waited long enough."""
        self.add(item)
        self._now(item)

    def __len__(self) -> int:
        return len(self._items)

    # -- replaying

    async def _run(self) -> None:
        while True:
            pause_s = self._start_due()
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()

    def _start_due(self) -> float:
        """Start as many replays as may run; returns how long until there may be more to start, in seconds."""
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            due_at, ident = heapq.heappop(self._later)
            item = self._items.get(ident)
            if item is not None and item.due_at == due_at and not item.running:
                heapq.heappush(self._due, ident)
        while self._due and len(self._tasks) < self._legacy.replay_connections:
            if now < self._pause_until:
                return self._pause_until - now
            item = self._items.get(self._due[0])
            if item is None or item.running or item.due_at > now:  # an older place in the queue
                heapq.heappop(self._due)
                continue
            if self._hosts.wait_s() > 0:
                return self._hosts.wait_s()
            heapq.heappop(self._due)
            self._start(item)
        return min(POLL_S, max(0.0, self._later[0][0] - now)) if self._later else POLL_S

    def _start(self, item: Spooled) -> asyncio.Task[Outcome | None]:
        item.running = True
        # The hosts are claimed here and now: a probe is one message, not all that are started in this instant.
        claimed = self._hosts.claim(item.doubt)
        task = asyncio.get_running_loop().create_task(self._replay(item, claimed))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Outcome | None]) -> None:
        self._tasks.discard(task)
        self._wake.set()

    async def _replay(self, item: Spooled, claimed: list[Host]) -> Outcome | None:
        """One attempt; None if the entry could not be read, or something else of ours failed."""
        try:
            entry = await self._journal.load(item.id)
            outcome = await self._hosts.send(self._parcel(entry, item.rcpts), Ticket(live=False), claimed)
        except Exception as error:  # it must not stay "sending" for ever
            self._failed(item, error)
            return None
        waited_s = time.time() - item.received_ns / 1e9
        if outcome.incapable and waited_s > self._legacy.smtputf8_wait_s:
            outcome = Outcome((NOT_CAPABLE,) * len(item.rcpts))
        self._settle(item, outcome)
        return outcome

    def _failed(self, item: Spooled, error: Exception) -> None:
        item.running = False
        item.last = str(error) if isinstance(error, JournalError) else type(error).__name__
        log.error("replay_fault", id=item.id, error=item.last)
        item.attempts += 1
        self._postpone(item)

    def _settle(self, item: Spooled, outcome: Outcome) -> None:
        item.running = False
        item.last = last_reply(outcome)
        if item.id not in self._items:  # dropped meanwhile
            return
        left, in_doubt = self._marks.outcome(item.id, item.received_ns, item.size_bytes, item.rcpts, outcome, told=250)
        why = unaddressed(item.last)
        log.info("replayed", id=item.id, host=outcome.host, left=len(left), attempt=item.attempts + 1, why=why)
        if not left:
            self._forget(item)
            return
        item.rcpts = left
        if outcome.host:  # it may have it, or said itself that it has not
            self.in_doubt += in_doubt - bool(item.doubt)
            item.doubt = outcome.host if in_doubt else ""
        if outcome.unreached:
            self._pause_until = time.monotonic() + self._jittered(self._legacy.retry_min_s)
            self._now(item)
        else:
            item.attempts += 1
            self._postpone(item)

    def _postpone(self, item: Spooled) -> None:
        factor = 2.0 ** min(item.attempts, 30)
        pause_s = self._jittered(min(self._legacy.retry_min_s * factor, self._legacy.retry_max_s))
        item.due_at = time.monotonic() + pause_s
        heapq.heappush(self._later, (item.due_at, item.id))

    def _now(self, item: Spooled) -> None:
        item.due_at = 0.0
        heapq.heappush(self._due, item.id)
        self._wake.set()

    def _jittered(self, pause_s: float) -> float:
        return pause_s * random.uniform(0.5, 1.0)  # noqa: S311  no secret

    def _forget(self, item: Spooled) -> None:
        del self._items[item.id]
        self.bytes -= item.size_bytes
        self.in_doubt -= bool(item.doubt)
        while self._ages and self._ages[0] not in self._items:
            heapq.heappop(self._ages)

    # -- the operator

    def retry(self, ident: str | None) -> int:
        """Make one message, or all, due now; returns how many. Raises CommandError."""
        self._pause_until = 0.0
        items = list(self._items.values()) if ident is None else [self._find(ident)]
        for item in items:
            if not item.running:
                self._now(item)
        return len(items)

    def drop(self, ident: str) -> None:
        """Give a message up. Raises CommandError."""
        item = self._find(ident)
        self._forget(item)
        self._marks.dropped(ident, item.rcpts)
        log.warning("dropped", id=ident)

    async def attempt(self, ident: str) -> Outcome | None:
        """Try one message at once, whatever the breakers say; None if it does not wait here. Raises CommandError."""
        item = self._items.get(ident)
        if item is None:
            return None
        if item.running:
            raise CommandError(f"{ident} is being sent in this very moment")
        item.running = True
        task = asyncio.get_running_loop().create_task(self._replay(item, self._hosts.all))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task) or Outcome((), error=item.last)

    def _find(self, ident: str) -> Spooled:
        item = self._items.get(ident)
        if item is None:
            raise CommandError(f"no spooled message {ident} (others: `bouncetap message ID --resend`)")
        return item

    async def rows(self) -> list[dict[str, Any]]:
        """The oldest messages, JSON-able."""
        items = list(self._items.values())
        if len(items) > LISTED:  # in a thread: it takes a while to find them among a million
            items = await asyncio.to_thread(heapq.nsmallest, LISTED, items, key=_id)
        now_ns = time.time_ns()
        return [
            {
                "id": item.id,
                "age_s": round((now_ns - item.received_ns) / 1e9, 1),
                "size_bytes": item.size_bytes,
                "recipients": len(item.rcpts),
                "state": "sending" if item.running else "in doubt" if item.doubt else "waiting",
                "last_reply": item.last,
            }
            for item in sorted(items, key=_id)
        ]

    def status(self) -> dict[str, Any]:
        """JSON-able; sets the gauges too. Cheap however many wait."""
        age_s = time.time() - self._items[self._ages[0]].received_ns / 1e9 if self._ages else 0.0
        SPOOL_MESSAGES.set(len(self._items))
        SPOOL_BYTES.set(self.bytes)
        SPOOL_AGE.set(age_s)
        return {
            "messages": len(self._items),
            "bytes": self.bytes,
            "oldest_age_s": round(age_s, 1),
            "in_doubt": self.in_doubt,
        }


def _id(item: Spooled) -> str:
    return item.id
