"""The lower half of an SMTP session: admission, command lines, replies, deadlines, the switch to TLS, the end.

`Connection` is an aiosmtpd protocol in which all input and output is our own: input is an `Inbox`, replies to a
pipelined batch go out in one write, one lazily re-armed timer holds the deadline of whatever we wait for, and a
client that goes away cancels nothing: the session's task finds out by itself and frees what it held.
"""

from __future__ import annotations

import asyncio
import math
import os
import socket
import ssl
import sys
from pathlib import Path
from typing import cast

import structlog
from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as Introduction

from proxy import counters
from proxy.front import Front
from proxy.inbox import BareLineFeedError, Inbox
from proxy.limits import address_key
from proxy.proxyproto import V2_LIMIT_BYTES, ProxyHeaderError
from proxy.proxyproto import parse as parse_proxy_header

PROXY_HEADER_TIMEOUT_S = 5.0
TLS_HANDSHAKE_TIMEOUT_S = 30.0
CLOSE_TIMEOUT_S = 5.0  # for a peer that does not take our last reply
UNBROKEN_COMMANDS = 50  # of one pipelined batch, before other sessions get their turn
ACKNOWLEDGED_AFTER_S = (0.001, 0.01, 0.05, 0.2, 0.75)
TCP_INFO_BYTES, TCP_CLOSE = 104, 7  # linux/tcp.h
SKIP_LIMIT_BYTES = 1_000_000  # of one over-long command line

log = structlog.get_logger("proxy")


class GoneError(Exception):
    """The client has gone, or we are done with it: the session ends without another word."""


class Transaction(Envelope):
    """One mail transaction: aiosmtpd's envelope with the arguments as bytes, as received."""

    def __init__(self) -> None:
        super().__init__()
        self.mail_arg: bytes | None = None
        self.rcpt_args: list[bytes] = []


class Connection(SMTP):
    """One connection, from `connection_made` to the end of its own task. `obey` is the subclass's."""

    envelope: Transaction
    session: Introduction  # what the client said of itself
    transport: asyncio.Transport

    def __init__(self, front: Front) -> None:
        # Deliberately without SMTP.__init__: 100 us of reflection for hooks that have no use here, and state shared
        # by all connections (`command_size_limits`). Inherited are the protocol's type, its session and envelope.
        self.loop = front.loop
        self.front = front
        self.session = self._create_session()
        self.reset()
        self.inbox = Inbox(front.loop)
        self.peer_ip = self.peer = self.proxied_for = self.tls_name = ""
        self.waiting = False  # for a command, with nothing of ours to finish: may be dismissed
        self.ending = False  # no further command is obeyed
        self.lost = False  # the socket is gone
        self.task: asyncio.Task[None] | None = None
        self._out: list[bytes] = []
        self._bad_commands = 0
        self._unbroken = 0  # commands obeyed since the loop last had its turn
        self._gate_key = ""
        self._write_paused = False
        self._drained: asyncio.Future[None] | None = None
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def reset(self) -> None:
        """Forget the transaction (RFC 5321 section 4.1.1.5)."""
        self.envelope = Transaction()

    async def obey(self, line: bytes) -> None:
        """Obey one command line (without CRLF)."""
        raise NotImplementedError

    # -- the protocol's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the session, or answer 421 if there are too many."""
        transport = cast("asyncio.Transport", transport)  # uvloop's has no such base class
        name = transport.get_extra_info("peername")
        if not name:  # gone before we looked
            transport.abort()
            return
        self.peer_ip = name[0]
        self.peer = self.session.peer = endpoint(name[0], name[1])
        self.transport = self.socket_transport = transport
        self.inbox.attach(transport)
        # Zero: a write that the kernel does not take at once pauses us, so drained means "it is in the socket".
        transport.set_write_buffer_limits(0)
        counters.CONNECTIONS.inc()
        if reason := self.front.gate.admit_any():
            counters.REFUSED.labels(reason).inc()
            transport.write(b"421 4.7.0 Too many connections, try again later\r\n")
            transport.close()
            return
        counters.OPEN.inc()
        self.front.sessions.add(self)
        self.task = self.loop.create_task(self._run())

    def data_received(self, data: bytes) -> None:
        """Keep it until the session's task asks."""
        self.inbox.feed(data)

    def eof_received(self) -> bool:
        """The client will send no more; it may still read (but not through TLS)."""
        self.inbox.feed_eof()
        return not self.tls_name

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone. Whatever runs for this client runs on; the session's task ends by itself."""
        self.lost = True
        self.inbox.feed_eof()
        self.resume_writing()

    def pause_writing(self) -> None:
        """The kernel takes no more for now."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """It does again."""
        self._write_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # -- called by the server

    def dismiss(self, reply: bytes) -> None:
        """End a session that is `waiting` with a last reply."""
        self._out.append(reply)
        self.ending = True
        self.inbox.feed_eof()

    def abort(self) -> None:
        """End the session now, without a word."""
        self.ending = True
        self.transport.abort()
        self.inbox.feed_eof()

    # -- the session's task

    async def _run(self) -> None:
        try:
            if await self._admitted():
                self.say(self.front.greeting)
                if len(self.inbox):
                    counters.EARLY.inc()
            while not self.ending:
                await self.obey(await self._next_line())
        except (GoneError, ConnectionError, ssl.SSLError):
            pass
        except Exception as error:  # a fault of ours must be seen, but not by the client
            log.error("session_fault", peer=self.peer, error=where(error))
        finally:
            self._cleanup()

    def _cleanup(self) -> None:
        """Free everything; a last reply goes out with the close."""
        if self._timer is not None:
            self._timer.cancel()
        self.reset()
        self.front.sessions.discard(self)
        self.front.gate.release_any()
        if self._gate_key:
            self.front.gate.release(self._gate_key)
        counters.OPEN.dec()
        if self._out and not self.lost and not self.transport.is_closing():
            self.transport.write(b"".join(self._out))
        self.transport.close()
        if not self.lost and self.socket_transport.get_write_buffer_size():
            self.loop.call_later(CLOSE_TIMEOUT_S, self.socket_transport.abort)

    async def _admitted(self) -> bool:
        """Read the PROXY header of a balancer, then apply what depends on the client's address."""
        front = self.front
        if front.is_balancer(self.peer_ip):
            await self._read_proxy_header()
        key = "" if front.gate.exempts(self.peer_ip) else address_key(self.peer_ip)
        if self.peer_ip in front.handler_addresses:
            self.hang_up("loop", b"421 4.4.6 Mail from the handler to itself\r\n")
        elif front.paused or front.closing:
            self.hang_up("paused", b"421 4.3.2 Not accepting mail now, try again later\r\n")
        elif key and (reason := front.gate.admit(key)):
            self.hang_up(reason, b"421 4.7.0 Too many connections from your address, try again later\r\n")
        else:
            self._gate_key = key
        return not self.ending

    async def _read_proxy_header(self) -> None:
        self.arm(PROXY_HEADER_TIMEOUT_S)
        while True:
            try:
                header = parse_proxy_header(self.inbox.peek(V2_LIMIT_BYTES))
            except ProxyHeaderError:
                counters.REFUSED.labels("proxy_header").inc()
                log.warning("bad_proxy_header", peer=self.peer)
                raise GoneError from None
            if header is not None:
                break
            if not await self.inbox.wait():
                raise GoneError
        self.inbox.skip(header.size_bytes)
        if header.source is not None:
            self.proxied_for = self.peer
            self.peer_ip = header.source[0]
            self.peer = self.session.peer = endpoint(*header.source)

    # -- lines in

    async def _next_line(self) -> bytes:
        """The next command line; one that is too long is answered and passed over."""
        inbox, limit = self.inbox, self.front.limits.command_line_bytes
        self.arm(self.front.limits.command_timeout_s)
        while not self.ending:
            try:
                line = inbox.take_line()
            except BareLineFeedError:
                self.hang_up("bare_lf_command", b"500 5.5.2 Commands end in CRLF\r\n")
                break
            if line is not None and len(line) + len(b"\r\n") <= limit:
                self._unbroken += 1
                if self._unbroken >= UNBROKEN_COMMANDS:
                    self._unbroken = 0
                    await asyncio.sleep(0)
                return line
            if line is not None or len(inbox) > limit:
                if line is None:
                    await self._skip_line()
                self.bad(b"500 5.5.2 Line too long\r\n")
                continue
            if self.front.closing:
                self.hang_up("closing", b"421 4.3.2 Closing down, try again later\r\n")
                break
            await self.flush()
            self.waiting = True
            self._unbroken = 0
            more = await inbox.wait()
            self.waiting = False
            if not more:
                break
        raise GoneError

    async def _skip_line(self) -> None:
        """Drop a line that is too long already, to its end, within bounds."""
        skipped = 0
        while not self.inbox.has_line():
            drop = max(0, len(self.inbox) - 1)  # the last octet may be the CR
            skipped += drop
            self.inbox.skip(drop)
            if skipped > SKIP_LIMIT_BYTES:
                self.hang_up("endless_command", b"421 4.7.0 Line too long\r\n")
                raise GoneError
            if not await self.inbox.wait():
                raise GoneError
        self.inbox.take_line()

    # -- replies out

    def say(self, reply: bytes) -> None:
        """Queue a reply, CRLF included; it leaves when there is no further command to obey."""
        self._out.append(reply)

    def bad(self, reply: bytes) -> None:
        """Answer a command that should not have been sent; too many of them end the session."""
        self.say(reply)
        self._bad_commands += 1
        if self._bad_commands >= self.front.limits.bad_commands:
            self.hang_up("bad_commands", b"421 4.7.0 Too many errors\r\n")

    def hang_up(self, reason: str, reply: bytes) -> None:
        """Answer, count the reason, and end the session."""
        counters.REFUSED.labels(reason).inc()
        self.say(reply)
        self.ending = True

    async def flush(self) -> None:
        """Write what was said, in one piece, and wait until the socket has it; `GoneError` if it cannot."""
        if not self._out:
            return
        replies = b"".join(self._out)
        self._out.clear()
        if self.lost or self.transport.is_closing():
            raise GoneError
        self.transport.write(replies)
        while self._write_paused and not self.lost:
            self._drained = self.loop.create_future()
            await self._drained
        if self.lost or self.transport.is_closing():
            raise GoneError

    async def acknowledged(self) -> bool:
        """Whether a client that has sent its last octet took all that was written: a closed socket would reset.

        False if it has not after a second, or where the system does not tell.
        """
        if not hasattr(socket, "TCP_INFO"):
            return False
        try:
            fd = os.dup(self.socket_transport.get_extra_info("socket").fileno())
        except OSError:  # no descriptor is left
            return False
        with socket.socket(fileno=fd) as sock:
            for pause_s in ACKNOWLEDGED_AFTER_S:
                await asyncio.sleep(pause_s)
                info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
                if self.lost or info[0] == TCP_CLOSE:
                    return False
                if not int.from_bytes(info[24:28], sys.byteorder):  # tcpi_unacked
                    return True
        return False

    # -- deadlines

    def arm(self, timeout_s: float) -> None:
        """Expect progress within so many seconds; `math.inf` for as long as we are at work ourselves."""
        self._deadline = self.loop.time() + timeout_s
        if self._timer is None and timeout_s < math.inf:
            self._timer = self.loop.call_at(self._deadline, self._tick)
        elif self._timer is not None and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = self.loop.call_at(self._deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._deadline == math.inf:
            return
        if self.loop.time() < self._deadline:
            self._timer = self.loop.call_at(self._deadline, self._tick)
        elif self._write_paused:  # it does not even take our replies
            counters.REFUSED.labels("timeout").inc()
            self.abort()
        else:
            self.hang_up("timeout", b"421 4.4.2 Timeout\r\n")
            self.inbox.feed_eof()

    # -- TLS

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Switch to TLS after the 220 has been said; `GoneError` if the handshake fails.

        What the client sent in the clear behind STARTTLS is dropped, unread (RFC 3207 section 4.2).
        """
        await self.flush()
        self.arm(math.inf)  # the handshake has a timeout of its own
        if self.inbox.take_all():
            counters.REFUSED.labels("starttls_injection").inc()
        try:
            transport = await self.loop.start_tls(
                self.socket_transport,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=TLS_HANDSHAKE_TIMEOUT_S,
                ssl_shutdown_timeout=CLOSE_TIMEOUT_S,
            )
        except (OSError, RuntimeError, ssl.SSLError) as error:  # a RuntimeError: the transport is closing
            counters.TLS_HANDSHAKES.labels("failed").inc()
            log.info("tls_handshake_failed", peer=self.peer, error=type(error).__name__)
            raise GoneError from None
        if transport is None:
            raise GoneError
        counters.TLS_HANDSHAKES.labels("ok").inc()
        self.transport = transport
        self.inbox.attach(transport)
        tls = transport.get_extra_info("ssl_object")
        self.session.ssl = tls
        self.tls_name = f"{tls.version()} {tls.cipher()[0]}"


def endpoint(ip: str, port: int) -> str:
    """`ip:port`, with brackets around IPv6."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def where(error: BaseException) -> str:
    """Type and place of an error, without its text: that may quote mail."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    return f"{type(error).__name__} at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
