"""One connection to a handler: the mail transaction, pipelined and byte for byte (RFC 5321, RFC 2920).

aiosmtplib has greeted, said EHLO, started TLS and logged in (`connect.py`); from there on the transport's protocol is
this one. The envelope goes out in one write, the body in another, untouched; replies are kept verbatim.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass

from proxy.types import Reply
from proxy.upstream.identity import Client, xclient
from proxy.upstream.offers import Offers

MAX_LINE_BYTES = 8192
MAX_LINES = 100
BLOCK_BYTES = 65536  # of a body, that the handler must read within `block_s` (RFC 5321 section 4.5.3.2.5)
_REPLY_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_HELO = re.compile(rb"[!-~]{1,255}")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class LostError(Exception):
    """The connection ended, or became useless, before all was said. One line of text says how.

    `maybe_accepted`: the whole message was sent, and no reply to it came (RFC 1047). `timed_out`: it was silence.
    `reply` is the 421 that announced the end, if one did.
    """

    def __init__(
        self, text: str, *, maybe_accepted: bool = False, timed_out: bool = False, reply: Reply | None = None
    ) -> None:
        super().__init__(text)
        self.maybe_accepted = maybe_accepted
        self.timed_out = timed_out
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Said:
    """What the handler replied in one transaction, as far as it came to that: 2xx, 4xx or 5xx each.

    `rcpts` is empty where MAIL was refused to a host without PIPELINING. `end` is the reply to DATA if that was
    refused, else the reply to the dot; None where no recipient was accepted.
    """

    mail: Reply
    rcpts: tuple[Reply, ...]
    end: Reply | None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the handler may be silent, in seconds. `block_s` is for each block of a body."""

    command_s: float
    reply_s: float
    block_s: float


class Connection(asyncio.Protocol):
    """Use it for one transaction at a time; after `LostError` it is closed. `transactions` counts those begun."""

    def __init__(self, offers: Offers, timeouts: Timeouts, hostname: bytes, *, secure: bool) -> None:
        self.offers = offers
        self.transactions = 0
        self.client: Client | None = None  # on whose behalf it speaks (XCLIENT, PROXY)
        self.idle_since = 0.0
        self._loop = asyncio.get_running_loop()
        self._timeouts = timeouts
        self._hostname = hostname
        self.secure = secure
        self._transport: asyncio.Transport | None = None
        self._fault = ""  # why it is of no use any more
        self._timed_out = False
        self._rest = b""
        self._lines: list[bytes] = []
        self._replies: list[Reply] = []
        self._wanted = 0
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._patience_s = 0.0  # of silence, where the handler has all that we said
        self._timer: asyncio.TimerHandle | None = None  # armed lazily: it may go off too early, never too late
        self._unsent = False  # bytes of ours have not reached the kernel
        self._unsent_bytes = 0
        self._dirty = False  # a transaction was begun and not ended

    # -- the transport's side

    def take_over(self, transport: asyncio.Transport) -> None:
        """Become the protocol of an established session's transport."""
        self._transport = transport
        transport.set_protocol(self)
        # Zero: paused means that there are bytes which the kernel has not taken.
        transport.set_write_buffer_limits(0)

    def pause_writing(self) -> None:
        """The kernel takes no more for now."""
        self._unsent = True

    def resume_writing(self) -> None:
        """It has everything."""
        self._unsent = False

    def data_received(self, data: bytes) -> None:
        """Put replies together; what nobody waits for (a 421 to an idle connection) ends the connection."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if not self._take(line.removesuffix(b"\r")):
                return
        if len(self._rest) > MAX_LINE_BYTES:
            self._break("reply line too long")

    def _take(self, line: bytes) -> bool:
        match = _REPLY_LINE.fullmatch(line)
        if match is None or len(line) > MAX_LINE_BYTES or len(self._lines) >= MAX_LINES:
            self._break("malformed reply")
            return False
        code, separator, text = match.groups()
        self._lines.append(_CONTROL.sub(b"?", text or b""))
        if separator == b"-":
            return True
        reply = Reply(int(code), tuple(self._lines))
        self._lines.clear()
        if self._waiter is None or len(self._replies) >= self._wanted:
            self._break(f"unexpected reply {reply.code}")
            return False
        self._replies.append(reply)
        if len(self._replies) == self._wanted:
            self._wake()
        return True

    def eof_received(self) -> bool:
        """The handler has closed."""
        self._break("connection closed by the handler")
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone."""
        self._fault = self._fault or (f"connection lost: {error}" if error else "connection closed")
        if self._timer is not None:
            self._timer.cancel()
        self._wake()

    def _break(self, fault: str) -> None:
        self._fault = self._fault or fault
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- the pool's side

    @property
    def usable(self) -> bool:
        """False once it is closed or broken."""
        return not self._fault and self._transport is not None and not self._transport.is_closing()

    def abort(self) -> None:
        """Drop it without a word."""
        self._break("given up")

    def quit(self) -> None:
        """Say QUIT and close, without waiting for the reply (RFC 5321 section 4.1.1.10 asks only servers to)."""
        if self.usable and self._transport is not None:
            self._fault = "done"
            self._transport.write(b"QUIT\r\n")
            self._transport.close()

    # -- talking

    async def transact(self, mail_arg: bytes, rcpt_args: Sequence[bytes], body: Sequence[bytes]) -> Said:
        """Send one message: the body is the concatenation of `body`, in wire form, empty or ending in CRLF.

        Parameters that this host lacks are dropped. Raises LostError; a cancelled transaction ends the connection.
        """
        self.transactions += 1
        try:
            return await self._transact(self.offers.mail(mail_arg), self.offers.rcpts(rcpt_args), body)
        except BaseException:
            self.abort()
            raise

    async def probe(self, mail_arg: bytes, rcpt_arg: bytes) -> tuple[Reply, Reply | None]:
        """Ask whether an envelope would be taken, and take it back: the replies to MAIL and, if it came to that, RCPT.

        DATA is never sent. Raises LostError.
        """
        mail = await self._command(b"MAIL FROM:" + mail_arg + b"\r\n")
        rcpt = await self._command(b"RCPT TO:" + rcpt_arg + b"\r\n") if mail.code < 300 else None
        await self._command(b"RSET\r\n")
        return mail, rcpt

    async def _transact(self, mail_arg: bytes, rcpt_args: Sequence[bytes], body: Sequence[bytes]) -> Said:
        commands = [b"MAIL FROM:" + mail_arg + b"\r\n", *(b"RCPT TO:" + arg + b"\r\n" for arg in rcpt_args)]
        mail, rcpts, data = await (self._pipelined(commands) if self.offers.pipelining else self._stepwise(commands))
        accepted = mail.code < 300 and any(reply.code < 300 for reply in rcpts)
        if data is None:
            return Said(mail, rcpts, None)
        if data.code != 354:
            if data.code < 400:
                raise LostError(f"unexpected reply {data.code} to DATA")
            return Said(mail, rcpts, data if accepted else None)
        if not accepted:  # RFC 2920 section 3.1: the body must not follow
            await self._exchange((b".\r\n",), 1, self._timeouts.command_s)
            self._dirty = False
            return Said(mail, rcpts, None)
        return Said(mail, rcpts, await self._send_body(body))

    async def _pipelined(self, commands: Sequence[bytes]) -> tuple[Reply, tuple[Reply, ...], Reply]:
        """All of the envelope and DATA in one write."""
        reset = (b"RSET\r\n",) if self._dirty else ()
        self._dirty = True
        batch = b"".join((*reset, *commands, b"DATA\r\n"))
        replies = await self._exchange((batch,), len(reset) + len(commands) + 1, self._timeouts.command_s)
        mail, *rcpts, data = replies[len(reset) :]
        for reply in (mail, *rcpts):
            _no_intermediate(reply)
        return mail, tuple(rcpts), data

    async def _stepwise(self, commands: Sequence[bytes]) -> tuple[Reply, tuple[Reply, ...], Reply | None]:
        """One command after the other, no further than makes sense."""
        if self._dirty:
            await self._command(b"RSET\r\n")
        self._dirty = True
        mail = await self._command(commands[0])
        if mail.code >= 400:
            return mail, (), None
        rcpts = tuple([await self._command(command) for command in commands[1:]])
        if not any(reply.code < 300 for reply in rcpts):
            return mail, rcpts, None
        (data,) = await self._exchange((b"DATA\r\n",), 1, self._timeouts.command_s)
        return mail, rcpts, data

    async def _command(self, command: bytes) -> Reply:
        (reply,) = await self._exchange((command,), 1, self._timeouts.command_s)
        return _no_intermediate(reply)

    async def _send_body(self, body: Sequence[bytes]) -> Reply:
        try:
            (reply,) = await self._exchange((*body, b".\r\n"), 1, self._timeouts.reply_s)
            self._dirty = False
            return _no_intermediate(reply)
        except LostError as lost:
            if lost.reply is not None:  # 421: refused, surely
                raise
            # Through TLS we cannot tell how much of it has left.
            sent = self.secure or not self._unsent
            raise LostError(str(lost), maybe_accepted=sent, timed_out=lost.timed_out) from None

    async def introduce(self, client: Client) -> None:
        """Tell by XCLIENT on whose behalf the next message comes, where that is offered. Raises LostError."""
        if not self.offers.xclient or client == self.client:
            return
        try:
            reply = await self._command(xclient(client, self.offers.xclient))
            if reply.code >= 300:
                raise LostError(f"XCLIENT: {reply.code}")
            # The session begins anew, as the sender's (Postfix XCLIENT_README); what it calls itself may displease.
            for name in (client.helo, self._hostname) if _HELO.fullmatch(client.helo) else (self._hostname,):
                reply = await self._command(b"EHLO " + name + b"\r\n")
                if reply.code < 500:
                    break
            if reply.code >= 300:
                raise LostError(f"EHLO after XCLIENT: {reply.code}")
        except BaseException:
            self.abort()
            raise
        self.client = client
        self._dirty = False

    async def _exchange(self, chunks: Sequence[bytes], wanted: int, timeout_s: float) -> list[Reply]:
        """Write `chunks` in one go and wait for `wanted` replies. Raises LostError, with the 421 if there is one."""
        if not self.usable or self._transport is None:
            raise LostError(self._fault or "connection closed")
        self._replies, self._wanted = [], wanted
        waiter = self._waiter = self._loop.create_future()
        self._transport.writelines(chunks)
        self._unsent_bytes = self._transport.get_write_buffer_size() if self._unsent else 0
        self._patience_s = timeout_s
        self._arm()
        try:
            await waiter
        finally:
            self._waiter = None
        for reply in self._replies:
            if reply.code == 421:
                self._break("421")
                raise LostError(f"421 {_first(reply)}", reply=reply)
        if len(self._replies) < wanted:
            raise LostError(self._fault or "connection closed", timed_out=self._timed_out)
        return self._replies

    # -- how long it may be silent

    def _arm(self) -> None:
        self._deadline = self._loop.time() + (self._timeouts.block_s if self._unsent else self._patience_s)
        if self._timer is not None and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._tick)

    def _tick(self) -> None:
        """Nothing was heard for long: give up, unless the handler has at least read on."""
        self._timer = None
        if self._waiter is None or self._fault:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._tick)
            return
        left = self._transport.get_write_buffer_size() if self._unsent and self._transport is not None else 0
        if self._unsent_bytes and left <= max(0, self._unsent_bytes - BLOCK_BYTES):
            self._unsent_bytes = left
            self._arm()
            return
        self._timed_out = True
        self._break("timeout")


def _no_intermediate(reply: Reply) -> Reply:
    if 300 <= reply.code < 400:
        raise LostError(f"unexpected reply {reply.code}")
    return reply


def _first(reply: Reply) -> str:
    return reply.lines[0].decode("utf-8", "backslashreplace") if reply.lines else ""
