"""All legacy hosts: one message goes to the first that will have it, in fail-over order, health by real traffic.

A host fails (`Breaker`) when it cannot be reached, loses the connection, says 421 or is silent too long; any other
reply is its answer. Before the dot, a failure sends the message on to the next host; after it, nobody else is asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram

from proxy.outcome import Outcome, decisive, unaddressed
from proxy.settings import Legacy
from proxy.types import Capabilities, Reply
from proxy.upstream.breaker import Breaker
from proxy.upstream.capabilities import Known
from proxy.upstream.client import Connection, LostError
from proxy.upstream.connect import Connector, DownError, credentials
from proxy.upstream.identity import Client
from proxy.upstream.pool import GaveUpError, Pool, Ticket

HANDLER_SECONDS = Histogram(
    "bouncetap_proxy_handler_seconds",
    "Transactions with the handler, from MAIL to its last reply",
    ["host"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 600),
)
HANDLER_FAILURES = Counter("bouncetap_proxy_handler_failures", "Failed connections and transactions", ["host"])
BREAKER_OPEN = Gauge("bouncetap_proxy_breaker_open", "1 while a host is taken to be down", ["host"])

log = structlog.get_logger("proxy")


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is sent: arguments as received for the recipients concerned, and the body's wire bytes in pieces."""

    id: str
    mail_arg: bytes
    rcpt_args: tuple[bytes, ...]
    smtputf8: bool
    body: tuple[bytes, ...]
    client: Client


class IncapableError(Exception):
    """The host does not offer SMTPUTF8, which the message needs."""


class Host:
    """One legacy host. `name` is as configured; `last_error` is one line, "" while all is well."""

    def __init__(self, name: str, connector: Connector, legacy: Legacy, known: Known) -> None:
        self.name = name
        self.last_error = ""
        self.breaker = Breaker(time.monotonic)
        self.pool = Pool(connector, legacy.connections, time.monotonic)
        self._known = known
        self._legacy = legacy
        self._latency = HANDLER_SECONDS.labels(name)
        self._failed = HANDLER_FAILURES.labels(name)
        self._open = BREAKER_OPEN.labels(name)
        self._open.set(0)

    def overloaded(self) -> bool:
        """True if a live message would wait for a slot beyond the deadline."""
        return self.pool.wait_s() > self._legacy.deadline_s

    async def send(self, parcel: Parcel, ticket: Ticket) -> Outcome:
        """One transaction. Raises GaveUpError, DownError and IncapableError, all before anything counted.

        A connection that turns out to be dead before the dot, or that answers MAIL with 5xx, is replaced by a fresh
        one, once, if it was not fresh itself.
        """
        started = await self.pool.enter(ticket)
        completed = False
        try:
            outcome = await self._try(parcel, fresh=False) or await self._try(parcel, fresh=True)
            assert outcome is not None
            completed = not outcome.error
            return outcome
        except DownError as error:
            self._failure(str(error))
            raise
        finally:
            self.pool.leave(started, completed=completed)

    async def _try(self, parcel: Parcel, *, fresh: bool) -> Outcome | None:
        """None if it is worth another try with a fresh connection. Raises DownError."""
        connection = await self.open(parcel.client, fresh=fresh)
        reused = connection.transactions > 0
        try:
            if parcel.smtputf8 and not connection.offers.smtputf8:
                self.pool.keep(connection)
                raise IncapableError
            if self._legacy.client_address == "xclient":
                await connection.introduce(parcel.client)
            began = time.monotonic()
            said = await connection.transact(parcel.mail_arg, parcel.rcpt_args, parcel.body)
            seconds = time.monotonic() - began
            self._latency.observe(seconds)
        except LostError as lost:
            self.pool.drop(connection)
            if reused and not lost.maybe_accepted and not lost.timed_out:
                return None
            return self._lost(lost, len(parcel.rcpt_args))
        except IncapableError:
            raise
        except BaseException:
            self.pool.drop(connection)
            raise
        if reused and said.mail.code >= 500 and not fresh:
            self.pool.drop(connection)
            return None
        self.pool.keep(connection)
        self._success()
        return Outcome(decisive(said, len(parcel.rcpt_args)), self.name, seconds=seconds)

    def _lost(self, lost: LostError, recipients: int) -> Outcome:
        if not lost.maybe_accepted and lost.reply is None:
            raise DownError(str(lost), begun=True)
        self._failure(str(lost))
        # A 421 counts as each recipient's reply: it is no verdict, but may have to be passed on (as 451).
        return Outcome((lost.reply,) * recipients, self.name, in_doubt=lost.maybe_accepted, error=str(lost))

    async def open(self, client: Client | None, *, fresh: bool = False) -> Connection:
        """A connection of the pool; what it offers is noted. Raises DownError."""
        speaks_for = client if self._legacy.client_address == "proxy" else None
        connection = await self.pool.connection(speaks_for, fresh=fresh)
        if connection.transactions == 0 and self._known.hear(self.name, connection.offers):
            asyncio.get_running_loop().run_in_executor(None, self._known.store)
        return connection

    def _success(self) -> None:
        if self.breaker.open:
            log.info("handler_up", host=self.name)
            self._open.set(0)
        self.breaker.success()
        self.last_error = ""

    def _failure(self, error: str) -> None:
        was_open = self.breaker.open
        self.breaker.failure()
        self._failed.inc()
        self.last_error = error
        if self.breaker.open and not was_open:
            log.warning("handler_down", host=self.name, error=unaddressed(error))
            self._open.set(1)

    def status(self) -> dict[str, Any]:
        """JSON-able."""
        state = "breaker" if self.breaker.open else "down" if self.last_error else "up"
        return {"host": self.name, "state": state, "last_error": self.last_error, **self.pool.status()}


class Hosts:
    """The hosts of `legacy`, in their order."""

    def __init__(self, legacy: Legacy, hostname: str, state_dir: Path) -> None:
        """Raises StartError if a host's name or the credentials make no sense."""
        login = credentials(legacy)
        self.known = Known(state_dir, legacy.hosts)
        self.all = [Host(name, Connector(name, legacy, hostname, login), legacy, self.known) for name in legacy.hosts]

    def capabilities(self) -> Capabilities:
        """What every host offers."""
        return self.known.all

    def wait_s(self) -> float:
        """How long until any host may be tried."""
        return min((host.breaker.wait_s() for host in self.all), default=60.0)

    def claim(self, first: str = "") -> list[Host]:
        """The hosts that may be tried now, in order, `first` before the others; takes the probes that are due."""
        ordered = sorted(self.all, key=lambda host: host.name != first) if first else self.all
        return [host for host in ordered if host.breaker.admit()]

    async def send(self, parcel: Parcel, ticket: Ticket, claimed: Sequence[Host], *, forced: bool = False) -> Outcome:
        """To the first of `claimed` that will have it. Never raises but for cancellation.

        Where a live message would wait beyond its deadline, a host is passed over, unless `forced`. Once the ticket
        is in a hurry no further host is tried.
        """
        error = "every host is down"
        begun = False
        incapable = 0
        tempfail: Outcome | None = None
        for host in claimed:
            if ticket.hurry and (begun or tempfail):
                break
            if ticket.live and not forced and host.overloaded():
                error = "too many messages wait"
                continue
            try:
                outcome = await host.send(parcel, ticket)
            except IncapableError:
                host.breaker.untried()
                incapable += 1
            except GaveUpError:
                host.breaker.untried()
                error = "no connection was free in time"
            except DownError as down:
                error = str(down)
                begun |= down.begun
            else:
                if not outcome.refused_421:
                    return outcome
                tempfail = outcome  # this one is going down: the next may take it
        if tempfail is not None:
            return tempfail
        nobody: tuple[Reply | None, ...] = (None,) * len(parcel.rcpt_args)
        if incapable and incapable == len(self.all):
            return Outcome(nobody, incapable=True, error="no host offers SMTPUTF8")
        return Outcome(nobody, unreached=not (begun or incapable), error=error)

    async def probe(self) -> None:
        """Ask hosts that were never heard what they offer. Never raises but for cancellation."""
        for host in self.all:
            if self.known.asked(host.name) or host.pool.full or not host.breaker.admit():
                continue
            started = await host.pool.enter(Ticket(live=False))
            try:
                host.pool.keep(await host.open(None))
                host.last_error = ""
            except DownError as error:
                host.last_error = str(error)
            finally:
                host.pool.leave(started, completed=False)

    def retire(self) -> None:
        """Every second or so: close connections that have long been idle."""
        for host in self.all:
            host.pool.retire()

    def close(self) -> None:
        """Close all connections; transactions under way end."""
        for host in self.all:
            host.pool.close()
