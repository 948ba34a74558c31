"""One client's socket: bytes in, commands to the session, responses out at the client's pace, within time limits."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, cast

import prometheus_client
import structlog

from store.imap.backend import Backend
from store.imap.framing import (
    COMMAND_LIMIT_BYTES,
    STRANGER_LIMIT_BYTES,
    CommandStream,
    Complete,
    Continue,
    Event,
    Refused,
)
from store.imap.grammar import Command, parse, tag_of
from store.imap.response import text
from store.imap.scanner import ImapSyntaxError
from store.imap.session import Closing, Gate, Session

log = structlog.get_logger("imap")

COMMANDS = prometheus_client.Counter("bouncetap_imap_commands", "IMAP commands executed.", ["command"])
_READ_BYTES = 65_536
_BUFFER_BYTES = 262_144  # of responses, before the client is waited for
_BAD_LIMIT = 20  # syntax errors in a row


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: of silence, until login, and that one write may take a client; and failed logins allowed."""

    idle_s: float = 1800.0
    login_s: float = 60.0
    write_s: float = 120.0
    failed_logins: int = 5


class Connection:
    """Runs from the greeting to the end of one connection; its session's `Output` and `Lines`."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        backend: Backend,
        verify: Callable[[str, str], Awaitable[str | None]],
        *,
        tls: ssl.SSLContext | None,
        encrypted: bool,
        limits: Limits,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._verify = verify
        self._tls = tls
        self._limits = limits
        self._stream = CommandStream(STRANGER_LIMIT_BYTES)
        self._connected_at = self._heard_at = time.monotonic()
        self._bad = 0
        self._failed_logins = 0
        peer = writer.get_extra_info("peername")
        self.peer = str(peer[0]) if peer else "unknown"
        local = writer.get_extra_info("sockname")
        on_loopback = bool(local) and _is_loopback(str(local[0]))
        gate = Gate(
            may_start_tls=tls is not None and not encrypted,
            may_log_in=encrypted or on_loopback,
            verify=self._try_login,
        )
        self.session = Session(backend, self, gate)
        writer.transport.set_write_buffer_limits(high=_BUFFER_BYTES)

    # -- Output --------------------------------------------------------------------------------------------------

    async def send(self, data: bytes) -> None:
        """Write; wait while the client is behind. Raises ConnectionError where it stays so for too long."""
        if len(data) > _BUFFER_BYTES:  # in slices, or the transport would hold a copy of it
            for start in range(0, len(data), _BUFFER_BYTES):
                await self.send(data[start : start + _BUFFER_BYTES])
            return
        self._writer.write(data)
        if self._writer.transport.is_closing():
            raise ConnectionResetError("the connection is closed")
        if self._writer.transport.get_write_buffer_size() > _BUFFER_BYTES:
            try:
                async with asyncio.timeout(self._limits.write_s):
                    await self._writer.drain()
            except TimeoutError:
                self._writer.transport.abort()
                raise ConnectionAbortedError("the client reads too slowly") from None

    # -- Lines ---------------------------------------------------------------------------------------------------

    async def line(self) -> bytes:
        """The next line without its end."""
        while (line := self._stream.line()) is None:
            await self._read()
        return line.rstrip(b"\r\n")

    async def line_or(self, event: Coroutine[Any, Any, None]) -> bytes | None:
        """The next line, or None once `event` has come first."""
        waiting, reading = asyncio.create_task(event), asyncio.create_task(self.line())
        try:
            await asyncio.wait((waiting, reading), return_when=asyncio.FIRST_COMPLETED)
            return reading.result() if reading.done() else None
        finally:
            for task in (waiting, reading):
                task.cancel()
            await asyncio.gather(waiting, reading, return_exceptions=True)

    async def _read(self) -> None:
        """Feed the stream. Raises ConnectionError at its end, Closing after too long a silence."""
        limit = self._heard_at + self._limits.idle_s
        if self.session.account is None:
            limit = min(limit, self._connected_at + self._limits.login_s)
        try:
            async with asyncio.timeout(max(0.0, limit - time.monotonic())):
                data = await self._reader.read(_READ_BYTES)
        except TimeoutError:
            raise Closing("too long without a word") from None
        if not data:
            raise ConnectionResetError("the client has gone")
        self._heard_at = time.monotonic()
        self._stream.feed(data)

    # -- the loop ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the client until either side ends it."""
        try:
            await self.session.greet()
            while not self.session.over:
                event = self._stream.next()
                if event is None:
                    await self._read()
                else:
                    await self._take(event)
            await self._flush()
        except Closing as reason:
            await self.bye(str(reason))
        except (ConnectionError, ssl.SSLError):
            pass
        except asyncio.CancelledError:
            await self.bye("the server is stopping, or your account has changed")
            raise
        finally:
            self.session.leave()
            self._writer.close()

    async def bye(self, why: str) -> None:
        """Tell the client that we end the connection."""
        try:
            await self.send(b"* BYE " + text(why) + b"\r\n")
            await self._flush()
        except (ConnectionError, ssl.SSLError):
            self._writer.transport.abort()

    async def _flush(self) -> None:
        """Give the last words a little time to leave."""
        self._writer.transport.set_write_buffer_limits(high=0)
        try:
            async with asyncio.timeout(5):
                await self._writer.drain()
        except TimeoutError:
            self._writer.transport.abort()

    async def _take(self, event: Event) -> None:
        if isinstance(event, Continue):
            await self.send(b"+ go on\r\n")
        elif isinstance(event, Refused):
            await self._refused(event)
        else:
            await self._complete(event)

    async def _refused(self, event: Refused) -> None:
        if event.fatal:
            raise Closing("literal too large")
        if event.append and self.session.account is not None:
            await self.send(event.tag + b" NO [CANNOT] nothing can be added to the quarantine\r\n")
        else:
            await self._bad_command(event.tag, "log in first" if event.append else "command too large")

    async def _bad_command(self, tag: bytes, why: str) -> None:
        self._bad += 1
        await self.send(b"%b BAD %b\r\n" % (tag, text(why)))
        if self._bad >= _BAD_LIMIT:
            raise Closing("too many bad commands")

    async def _complete(self, event: Complete) -> None:
        if not event.data:
            return
        try:
            command = parse(event.data)
        except ImapSyntaxError as error:
            await self._bad_command(tag_of(event.data), str(error))
            return
        self._bad = 0
        COMMANDS.labels(command.name).inc()
        await self._execute(command)

    async def _execute(self, command: Command) -> None:
        transport = cast("asyncio.Transport", self._writer.transport)
        if command.name == "STARTTLS":
            transport.pause_reading()  # what arrives from here on stays in the kernel, for the handshake to choke on
            if await self._input_waits():
                raise Closing("nothing may follow STARTTLS before TLS")
        await self.session.run(command, self)
        if self.session.wants_tls:
            await self._start_tls()
        elif command.name == "STARTTLS":
            transport.resume_reading()
        if self._failed_logins >= self._limits.failed_logins:
            raise Closing("too many failed logins")

    async def _try_login(self, user: str, password: str) -> str | None:
        role = await self._verify(user, password)
        self._failed_logins = self._failed_logins + 1 if role is None else 0
        if role is not None:
            self._stream.limit_bytes = COMMAND_LIMIT_BYTES
        return role

    # -- TLS -----------------------------------------------------------------------------------------------------

    async def _input_waits(self) -> bool:
        """Whether the client has sent more already: plain text must not pass for what came over TLS."""
        if self._stream.pending:
            return True
        reading = asyncio.create_task(self._reader.read(1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if reading.done():
            return True
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        return False

    async def _start_tls(self) -> None:
        assert self._tls is not None
        self.session.wants_tls = False
        await self._writer.start_tls(self._tls, ssl_handshake_timeout=self._limits.login_s)
        self._writer.transport.set_write_buffer_limits(high=_BUFFER_BYTES)
        gate = self.session.gate
        self.session.gate = replace(gate, may_start_tls=False, may_log_in=True)


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith(("127.", "::ffff:127."))
