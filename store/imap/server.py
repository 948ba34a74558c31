"""The IMAP part: listens, counts connections, and gives each a `Connection`; see docs/internals.md for its methods."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections import Counter
from functools import partial
from typing import Any

import prometheus_client
import structlog
from sqlalchemy.exc import SQLAlchemyError

from proxy.limits import address_key
from store.accounts import Accounts
from store.errors import CommandError, StartError
from store.imap.backend import Backend
from store.imap.connection import Connection, Limits
from store.imap.throttle import LoginGuard
from store.index import IndexUnusable
from store.mailboxes import Mailboxes
from store.quarantine import Quarantine
from store.settings import ImapSettings

log = structlog.get_logger("imap")

CONNECTIONS = prometheus_client.Gauge("bouncetap_imap_connections", "IMAP connections open.")
_BACKLOG = 256
_STOP_S = 5.0
_HANDSHAKE_S = 10.0  # of a TLS listener, before a connection counts


class ImapServer:
    """The part. `addresses` are those listened on, plain ones first, once `start` has returned."""

    def __init__(self, settings: ImapSettings, *, login_delay_s: float = 0.5, recheck_s: float = 5.0) -> None:
        self._settings = settings
        self._login_delay_s = login_delay_s
        self._recheck_s = recheck_s
        self._rechecking: asyncio.Task[None] | None = None
        self._servers: list[asyncio.Server] = []
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._by_address: Counter[str] = Counter()
        self._tls: ssl.SSLContext | None = None
        self._refused = 0
        self.addresses: list[tuple[str, int]] = []

    async def start(self) -> None:
        """Listening when it returns. Raises StartError."""
        settings = self._settings
        self._tls = _tls_context(settings)
        if settings.listen_tls and self._tls is None:
            raise StartError("imap: listen_tls needs tls_cert and tls_key")
        try:
            self._quarantine = await asyncio.to_thread(Quarantine.open, settings.store)
        except (IndexUnusable, SQLAlchemyError, OSError) as error:
            raise StartError(f"imap: {error}") from error
        self._backend = Backend(Mailboxes(self._quarantine), poll_interval_s=settings.poll_interval_s)
        self._accounts = Accounts(self._quarantine.index)
        self._guard = LoginGuard(self._accounts.verify, first_delay_s=self._login_delay_s)
        await self._backend.start()
        self._rechecking = asyncio.create_task(self._recheck())
        plain, encrypted = settings.listen, settings.listen_tls
        for listen, tls in [*((each, None) for each in plain), *((each, self._tls) for each in encrypted)]:
            try:
                await self._listen(listen, tls)
            except (OSError, ValueError) as error:
                await self.stop()
                reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
                raise StartError(f"cannot listen on {listen}: {reason}") from error
        log.info("listening", addresses=[f"{host}:{port}" for host, port in self.addresses])

    async def _recheck(self) -> None:
        """End the sessions of accounts that have been removed or given another role."""
        while True:
            await asyncio.sleep(self._recheck_s)
            for name in {c.session.account for c in self._connections} - {None}:
                try:
                    role = await asyncio.to_thread(self._accounts.role, str(name))
                except SQLAlchemyError as error:
                    log.warning("recheck_failed", error=type(error).__name__)
                    break
                for connection, task in list(self._connections.items()):
                    session = connection.session
                    if session.account == name and session.role.name != role:
                        log.info("session_ended", account=name, why="account changed")
                        task.cancel()

    async def _listen(self, address: str, tls: ssl.SSLContext | None) -> None:
        host, colon, port = address.rpartition(":")
        if not colon or not port.isdigit():
            raise ValueError(f"{address!r} is not host:port")
        accepted = partial(self._accepted, encrypted=tls is not None)
        handshake = {"ssl_handshake_timeout": _HANDSHAKE_S} if tls is not None else {}
        server = await asyncio.start_server(
            accepted, host.strip("[]"), int(port), ssl=tls, backlog=_BACKLOG, limit=2**16, **handshake
        )
        self._servers.append(server)
        for sock in server.sockets:
            name = sock.getsockname()
            self.addresses.append((str(name[0]), int(name[1])))

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, encrypted: bool) -> None:
        peer = writer.get_extra_info("peername")
        address = address_key(str(peer[0])) if peer else "unknown"
        settings = self._settings
        connection = Connection(
            reader,
            writer,
            self._backend,
            partial(self._guard.verify, address),
            tls=self._tls,
            encrypted=encrypted,
            limits=Limits(idle_s=settings.idle_timeout_s, login_s=settings.login_timeout_s),
        )
        if (
            len(self._connections) >= settings.connections
            or self._by_address[address] >= settings.connections_per_address
        ):
            self._refused += 1
            await connection.bye("[UNAVAILABLE] too many connections")
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._connections[connection] = task
        self._by_address[address] += 1
        CONNECTIONS.inc()
        try:
            await connection.run()
        except asyncio.CancelledError:
            pass  # by `stop`, which awaits us, or by `_recheck`
        except Exception:
            log.exception("connection_failed", peer=address)
        finally:
            CONNECTIONS.dec()
            del self._connections[connection]
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
                await writer.wait_closed()

    async def stop(self) -> None:
        """Say goodbye to all, wait for what runs, close. Bounded."""
        for server in self._servers:
            server.close()
        if self._rechecking is not None:
            self._rechecking.cancel()
        tasks = list(self._connections.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP_S)
        self._guard.close()
        await self._backend.stop()
        await asyncio.to_thread(self._quarantine.close)

    async def reload(self, settings: ImapSettings) -> None:
        """Take over what can change while running: the certificate, limits and time-outs of new connections.

        Raises StartError, and changes nothing, where the certificate cannot be read.
        """
        fresh = _tls_context(settings)
        if fresh is not None and self._tls is not None and settings.tls_cert is not None:
            self._tls.load_cert_chain(settings.tls_cert, settings.tls_key)  # the listeners hold on to this context
        else:
            self._tls = fresh
        self._settings = settings

    def status(self) -> dict[str, Any]:
        """What runs."""
        accounts = Counter(c.session.account for c in self._connections if c.session.account is not None)
        return {
            "listen": [f"{host}:{port}" for host, port in self.addresses],
            "connections": len(self._connections),
            "refused_connections": self._refused,
            "logged_in": dict(accounts),
            "folders_in_memory": self._backend.loaded,
            "last_error": self._backend.last_error,
        }

    async def command(self, name: str, _args: dict[str, Any]) -> dict[str, Any]:
        """Operator commands: `sessions`. Raises CommandError."""
        if name == "sessions":
            found = [
                {"peer": c.peer, "account": c.session.account, "folder": box.view.columns.name if box else None}
                for c in self._connections
                for box in (c.session.selected,)
            ]
            return {"sessions": found}
        raise CommandError(f"imap: unknown command {name}")


def _tls_context(settings: ImapSettings) -> ssl.SSLContext | None:
    """The server's TLS, or None without a certificate. Raises StartError."""
    if settings.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"imap: certificate {settings.tls_cert}: {error}") from error
    return context
