"""The proxy as a part (docs/internals.md): journal, delivery and listening sockets, started and stopped in order.

Operator commands: `pause` answers new connections and new MAIL commands with 421 4.3.2, what runs goes on; `resume`
ends that; `drain` pauses, sends the idle away with 421 4.3.2 and waits, up to `drain_timeout_s`, until no message is
being received. Every other command is the delivery's (spool, retry, drop, resend ...). SIGTERM is the shell's to
catch; `stop` does what it means.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Protocol

import structlog

from proxy import counters
from proxy.errors import StartError
from proxy.front import Front
from proxy.journal.errors import JournalError
from proxy.journal.writer import JournalWriter
from proxy.listeners import BACKLOG, bind, non_loopback, refuse_own, resolve
from proxy.session import Session
from proxy.settings import ProxySettings
from proxy.tls import server_tls
from proxy.types import Deliver

POLL_S = 0.05
ABORT_GRACE_S = 5.0
CLOSING_REPLY = b"421 4.3.2 Closing down, try again later\r\n"

log = structlog.get_logger("proxy")


class DeliverPart(Deliver, Protocol):
    """A `Deliver` that the server starts and stops: `proxy.delivery.Delivery`."""

    async def start(self) -> None:
        """Take messages from now on; raises StartError."""
        ...

    async def stop(self) -> None:
        """Finish or spool what runs, bounded."""
        ...

    def status(self) -> dict[str, Any]:
        """JSON-able."""
        ...

    async def command(self, name: str, args: dict[str, Any]) -> dict[str, Any]:
        """Obey an operator; raises CommandError."""
        ...


class ProxyServer:
    """The proxy's half of the tap, in one process and on one loop."""

    def __init__(self, settings: ProxySettings, *, deliver: DeliverPart | None = None) -> None:
        """Take the settings; `deliver` stands in for journal and delivery in tests and benchmarks."""
        self._settings = settings
        self._stand_in = deliver
        self._deliver: DeliverPart
        self._close_journal: Callable[[], Any] | None = None
        self._front: Front | None = None
        self._servers: list[asyncio.Server] = []
        self._listeners: list[socket.socket] = []
        self._stopped = False

    # -- life

    async def start(self) -> None:
        """Listen; all that is wrong with the settings is a `StartError` before the first message is taken."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        settings = self._settings
        if not settings.listen.listen:
            raise StartError("nothing to listen on")
        tls = server_tls(settings.listen.tls_cert, settings.listen.tls_key)
        self._listeners = [bind(text) for text in settings.listen.listen]
        handlers = await resolve(settings.legacy.hosts)
        refuse_own(handlers, self._listeners)
        self._deliver = self._stand_in or await self._open_delivery()
        try:
            self._front = Front(settings.listen, self._deliver, tls)
        except ValueError as error:
            raise StartError(str(error)) from None
        self._front.handler_addresses = non_loopback(handlers)
        in_flight = self._front.in_flight
        counters.IN_FLIGHT.set_function(lambda: float(in_flight.bytes))
        await self._deliver.start()
        await self._listen(self._front)
        log.info("listening", on=self.endpoints(), tls=tls is not None)

    async def _open_delivery(self) -> DeliverPart:
        from proxy.delivery import Delivery  # noqa: PLC0415  a stand-in works without it

        try:
            journal = await JournalWriter.open(self._settings.journal)
        except JournalError as error:
            raise StartError(str(error)) from None
        self._close_journal = journal.close
        return Delivery(self._settings, journal)

    async def _listen(self, front: Front) -> None:
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            server = await loop.create_server(lambda: Session(front), sock=listener, backlog=BACKLOG)
            self._servers.append(server)

    async def stop(self) -> None:
        """Stop accepting, 421 to the idle, finish the messages that run within `drain_timeout_s`, flush. Idempotent."""
        if self._stopped:
            return
        self._stopped = True
        for server in self._servers:
            server.close()
        for listener in self._listeners:
            listener.close()
        front = self._front
        if front is not None:
            front.closing = True
            await self._drain(front, front.listen.drain_timeout_s)
            for session in list(front.sessions):  # their senders keep what was not answered
                session.abort()
            await self._deliver.stop()
            await self._drain(front, ABORT_GRACE_S)
            tasks = [session.task for session in front.sessions if session.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._close_journal is not None:
            await self._close_journal()

    async def reload(self, settings: ProxySettings) -> None:
        """Take over certificate, domains, limits and policies; `StartError`, with nothing changed, if they are bad.

        Listening addresses, handlers and the journal need a restart.
        """
        front = self._front
        if front is None:
            raise StartError("not started")
        handlers = await resolve(settings.legacy.hosts)
        tls = server_tls(settings.listen.tls_cert, settings.listen.tls_key)
        try:
            front.configure(settings.listen)
        except ValueError as error:
            raise StartError(str(error)) from None
        front.tls = tls
        front.handler_addresses = non_loopback(handlers)
        self._settings = settings

    # -- the operator

    def endpoints(self) -> list[str]:
        """Where it listens, as "ip:port", port 0 resolved."""
        names = [listener.getsockname() for listener in self._listeners if listener.fileno() >= 0]
        return [f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}" for name in names]

    def status(self) -> dict[str, Any]:
        """What the proxy does, with the delivery's own status in it."""
        front = self._front
        if front is None:
            return {"state": "starting"}
        state = "stopping" if front.closing else "paused" if front.paused else "running"
        return {
            "state": state,
            "listen": self.endpoints(),
            "connections": front.gate.connections,
            "in_flight_bytes": front.in_flight.bytes,
            "messages": front.messages,
            "delivery": self._deliver.status(),
        }

    async def command(self, name: str, args: dict[str, Any]) -> dict[str, Any]:
        """Obey an operator; raises CommandError."""
        front = self._front
        assert front is not None, "commands come after start"
        if name == "pause":
            front.paused = True
        elif name == "resume":
            front.paused = False
        elif name == "drain":
            front.paused = True
            await self._drain(front, front.listen.drain_timeout_s)
        elif name == "reload" and "settings" in args:
            await self.reload(args["settings"])
        else:
            return await self._deliver.command(name, args)
        return {"paused": front.paused, "connections": front.gate.connections}

    async def _drain(self, front: Front, timeout_s: float) -> None:
        """Send the idle away until no session is left, so long at most."""
        deadline = front.loop.time() + timeout_s
        while front.sessions and front.loop.time() < deadline:
            for session in list(front.sessions):
                if session.waiting:
                    session.dismiss(CLOSING_REPLY)
            await asyncio.sleep(POLL_S)
