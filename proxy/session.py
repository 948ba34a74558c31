"""The SMTP session: what each command does (RFC 5321), and how a message is taken and answered.

Arguments are scanned but kept as received, the body is taken in chunks of wire form without a line limit, and what
becomes of a message is `Deliver`'s business: the session passes on its reply and reports when that was written.
"""

from __future__ import annotations

import math
import ssl
import time
from collections.abc import Awaitable, Callable

import structlog

from proxy import counters
from proxy.address import AddressError, has_control, parse_mail, parse_rcpt
from proxy.connection import Connection, GoneError, where
from proxy.cpu import in_thread
from proxy.front import Front
from proxy.types import Incoming, Reply
from proxy.wire import Splitter, inspect, received_count

RATE_WINDOW_S = 60.0  # over which `min_rate_bytes_s` is averaged
REFUSED_RECIPIENTS = 1000  # at foreign domains, between two messages
RECIPIENT_OVERHEAD_BYTES = 64  # what keeping one costs beside its octets
IDLE_COMMANDS = 100  # EHLO, RSET, NOOP, VRFY and HELP between two messages
RECEIVED_LIMIT = 100  # RFC 5321 section 6.3
LOGGED_RECIPIENTS = 10
INSPECT_IN_THREAD_BYTES = 1 << 20

log = structlog.get_logger("proxy")

_FAULT = Reply(451, (b"4.3.0 Local error, try again later",))
_TOO_BIG = b"552 5.3.4 Message too big\r\n"
_NO_MEMORY = b"452 4.3.1 Too much mail at once, try again later\r\n"


class Session(Connection):
    """One client's conversation."""

    _held_bytes = 0  # of the envelope and of a body, as `front.in_flight` counts them

    def __init__(self, front: Front) -> None:
        super().__init__(front)
        self._helo = b""
        self._messages = 0
        self._idle_commands = 0
        self._refused_recipients = 0

    def reset(self) -> None:
        """Forget the transaction, and give back what it held."""
        self._hold(-self._held_bytes)
        super().reset()

    async def obey(self, line: bytes) -> None:
        """Obey one command line; a fault of ours is temporary for the client (451) and tells nothing."""
        verb, _, arg = line.partition(b" ")
        command = COMMANDS.get(verb.upper())
        if has_control(line):
            return self.bad(b"501 5.5.2 Control characters are not accepted\r\n")
        if command is None:
            return self.bad(b"500 5.5.2 Unknown command\r\n")
        try:
            await command(self, arg.strip(b" "))
        except AddressError as error:
            self.bad(error.reply.encode("ascii") + b"\r\n")
        except (GoneError, ConnectionError, ssl.SSLError):
            raise
        except Exception as error:  # never a 5xx for what is our fault
            log.error("command_fault", peer=self.peer, error=where(error))
            self.reset()
            self.say(_FAULT.encode())

    # -- who is there

    async def ehlo(self, arg: bytes) -> None:
        """RFC 5321 section 4.1.1.1."""
        if self._introduced(arg, extended=True):
            self.say(self.front.ehlo_reply(secure=bool(self.tls_name)))

    async def helo(self, arg: bytes) -> None:
        """RFC 5321 section 4.1.1.1."""
        if self._introduced(arg, extended=False):
            self.say(self.front.helo_reply)

    def _introduced(self, arg: bytes, *, extended: bool) -> bool:
        if not arg:
            self.bad(b"501 5.5.4 Host name missing\r\n")
            return False
        self._helo = arg
        self.session.host_name = arg.decode("utf-8", "backslashreplace")
        self.session.extended_smtp = extended
        self.reset()
        return self._idle()

    async def starttls(self, arg: bytes) -> None:
        """RFC 3207: both sides forget what was said before."""
        tls = self.front.tls
        if arg:
            return self.bad(b"501 5.5.4 STARTTLS has no argument\r\n")
        if tls is None or self.tls_name:
            return self.bad(b"503 5.5.1 STARTTLS is not offered\r\n")
        self.say(b"220 2.0.0 Ready to start TLS\r\n")
        await self.start_tls(tls.context)
        self._helo = b""
        self.reset()
        return None

    # -- the envelope

    async def mail(self, arg: bytes) -> None:
        """RFC 5321 section 4.1.1.2, with SIZE, BODY, SMTPUTF8, RET and ENVID."""
        front = self.front
        if not self._helo:
            return self.bad(b"503 5.5.1 Send EHLO or HELO first\r\n")
        if self.envelope.mail_arg is not None:
            return self.bad(b"503 5.5.1 MAIL was given already\r\n")
        if front.paused or front.closing:
            return self.hang_up("paused", b"421 4.3.2 Not accepting mail now, try again later\r\n")
        if self._messages >= front.limits.messages_per_connection:
            return self.hang_up("messages", b"421 4.7.0 Too many messages on this connection\r\n")
        if arg[:5].upper() != b"FROM:":
            return self.bad(b"501 5.5.4 Syntax: MAIL FROM:<address>\r\n")
        arg = arg[5:].lstrip(b" ")
        params = parse_mail(arg).params
        smtputf8 = b"SMTPUTF8" in params
        if smtputf8 and not front.deliver.capabilities().smtputf8:
            return self.bad(b"555 5.5.4 SMTPUTF8 is not offered\r\n")
        size_bytes = int(params.get(b"SIZE", b"0"))
        if size_bytes > front.size_limit_bytes():
            return self._refuse("size", _TOO_BIG)
        if not front.in_flight.fits(size_bytes):
            return self._refuse("bytes_in_flight", _NO_MEMORY)
        self.envelope.mail_arg, self.envelope.smtp_utf8 = arg, smtputf8
        return self.say(b"250 2.1.0 Sender ok\r\n")

    async def rcpt(self, arg: bytes) -> None:
        """RFC 5321 section 4.1.1.3: one of our domains or none; the local part is the handler's business."""
        if self.envelope.mail_arg is None:
            return self.bad(b"503 5.5.1 Send MAIL first\r\n")
        if arg[:3].upper() != b"TO:":
            return self.bad(b"501 5.5.4 Syntax: RCPT TO:<address>\r\n")
        arg = arg[3:].lstrip(b" ")
        path = parse_rcpt(arg, smtputf8=self.envelope.smtp_utf8)
        if path.domain and path.domain not in self.front.domains:
            self._refuse("relay", b"550 5.7.1 Relaying denied\r\n")
            self._refused_recipients += 1
            if self._refused_recipients >= REFUSED_RECIPIENTS:
                self.hang_up("refused_recipients", b"421 4.7.0 Too many errors\r\n")
            return None
        if len(self.envelope.rcpt_args) >= self.front.limits.recipients:
            return self._refuse("recipients", b"452 4.5.3 Too many recipients\r\n")
        cost_bytes = len(arg) + RECIPIENT_OVERHEAD_BYTES
        if not self.front.in_flight.fits(cost_bytes):
            return self._refuse("bytes_in_flight", _NO_MEMORY)
        self._hold(cost_bytes)
        self.envelope.rcpt_args.append(arg)
        return self.say(b"250 2.1.5 Recipient ok\r\n")

    # -- the message

    async def data(self, arg: bytes) -> None:
        """RFC 5321 section 4.1.1.4: take the body, hand the message on, answer.

        A body that was sent without waiting for 354 is taken all the same; but where DATA is refused it must not
        be obeyed as commands, so the session ends (RFC 2920 section 3.1: DATA is the last command of a batch).
        """
        if refusal := self._data_refusal(arg):
            self.bad(refusal)
            if len(self.inbox):
                self.hang_up("pipelining", b"421 4.5.0 Body sent before 354\r\n")
            return
        self.say(b"354 End data with <CR><LF>.<CR><LF>\r\n")
        await self.flush()
        try:
            splitter = Splitter()
            refusal = await self._receive(splitter)
            self.arm(math.inf)
            self._messages += 1
            self._idle_commands = self._refused_recipients = 0
            if refusal:
                self._refuse("size" if refusal is _TOO_BIG else "bytes_in_flight", refusal)
            else:
                await self._hand_on(splitter.wire())
        finally:
            self.reset()

    def _data_refusal(self, arg: bytes) -> bytes:
        if arg:
            return b"501 5.5.4 DATA has no argument\r\n"
        if self.envelope.mail_arg is None:
            return b"503 5.5.1 Send MAIL first\r\n"
        if not self.envelope.rcpt_args:
            return b"554 5.5.1 No valid recipients\r\n"
        return b"" if self.front.in_flight.fits(1) else _NO_MEMORY

    async def _receive(self, splitter: Splitter) -> bytes:
        """Read to the end of data; the refusal of a body that was not kept, or empty."""
        limits, inbox = self.front.limits, self.inbox
        # The limit is on the message; stuffed dots come on top (RFC 1870 section 5), some are allowed for.
        limit_bytes = self.front.listen.max_message_size_bytes * 65 // 64 + 1024
        started = window_start = self.loop.time()
        window_bytes = 0
        envelope_bytes = self._held_bytes
        refusal = b""
        while True:
            if chunk := inbox.take_all():
                rest = splitter.feed(chunk)
                if not refusal:
                    refusal = self._keepable(splitter.size_bytes, limit_bytes, envelope_bytes)
                    if refusal:
                        splitter.discard()
                        self._hold(-self._held_bytes)
                if rest is not None:
                    if self.ending:  # its time was up in the same instant: the 421 is said, the sender keeps it
                        raise GoneError
                    inbox.put_back(rest)
                    return refusal
            now = self.loop.time()
            if now - window_start >= RATE_WINDOW_S:
                if splitter.size_bytes - window_bytes < limits.min_rate_bytes_s * (now - window_start):
                    self.hang_up("slow", b"421 4.4.2 Too slow\r\n")
                    raise GoneError
                window_start, window_bytes = now, splitter.size_bytes
            self.arm(min(limits.data_timeout_s, started + limits.data_total_timeout_s - now))
            if not await inbox.wait():
                raise GoneError

    def _keepable(self, size_bytes: int, limit_bytes: int, envelope_bytes: int) -> bytes:
        """Account for a body that has grown to this size; the refusal if it may not."""
        if size_bytes > limit_bytes:
            return _TOO_BIG
        grown = envelope_bytes + size_bytes - self._held_bytes
        if not self.front.in_flight.fits(grown):
            return _NO_MEMORY
        self._hold(grown)
        return b""

    def _hold(self, size_bytes: int) -> None:
        self._held_bytes += size_bytes
        self.front.in_flight.add(size_bytes)

    async def _hand_on(self, wire: bytes) -> None:
        """Deliver the body just received and answer the sender."""
        front, envelope = self.front, self.envelope
        dot = self.loop.time()
        counters.BYTES.inc(len(wire))
        if received_count(wire) > RECEIVED_LIMIT:
            return self._refuse("hops", b"554 5.4.6 Too many hops\r\n")
        if len(wire) > INSPECT_IN_THREAD_BYTES:
            inspected = await in_thread(inspect, wire, front.smuggling)
        else:
            inspected = inspect(wire, front.smuggling)
        if inspected.bare_cr or inspected.bare_lf:
            counters.BARE.labels("cr").inc(inspected.bare_cr)
            counters.BARE.labels("lf").inc(inspected.bare_lf)
        if inspected.refused:
            counters.REFUSED.labels("smuggling").inc()
        assert envelope.mail_arg is not None
        message = Incoming(
            peer=self.peer,
            helo=self._helo,
            tls=self.tls_name,
            mail_arg=envelope.mail_arg,
            rcpt_args=tuple(envelope.rcpt_args),
            wire=inspected.wire,
            smtputf8=envelope.smtp_utf8,
            received_ns=time.time_ns(),
            proxied_for=self.proxied_for,
            refused=inspected.refused,
            gone=self._gone,
        )
        try:
            reply, id_ = await front.deliver.deliver(message)
        except Exception as error:  # it promised not to; the sender keeps the message
            log.error("deliver_fault", peer=self.peer, error=where(error))
            reply, id_ = _FAULT, ""
        front.messages += 1
        counters.MESSAGES_BY_CLASS[reply.code // 100].inc()
        answered = False
        try:
            answered = await self._answer(reply)
        finally:  # whatever came of it: an undecided record would never be filed
            if id_ and answered:
                front.deliver.answered(id_, reply.code)
            elif id_:
                front.deliver.unanswered(id_)
        counters.LATENCY.observe(self.loop.time() - dot)
        log.info(
            "message",
            id=id_,
            peer=self.peer,
            tls=self.tls_name,
            size_bytes=len(wire),
            code=reply.code,
            answered=answered,
            mail_from=_shown(message.mail_arg),
            rcpt_to=[_shown(arg) for arg in message.rcpt_args[:LOGGED_RECIPIENTS]],
            rcpt_count=len(message.rcpt_args),
        )
        if not answered:
            raise GoneError
        return None

    async def _answer(self, reply: Reply) -> bool:
        """Write the reply; True if the socket took it from us while the client was still there.

        A client that has closed its side meanwhile and left nothing more to do has most likely gone: then the reply
        counts only if its socket acknowledged it.
        """
        gone = self._gone()
        self.say(reply.encode())
        self.arm(self.front.limits.command_timeout_s)
        try:
            await self.flush()
        except (GoneError, ConnectionError, ssl.SSLError):
            return False
        return not gone or (not self.lost and await self.acknowledged())

    def _gone(self) -> bool:
        return self.lost or (self.inbox.eof and not len(self.inbox))

    def _refuse(self, reason: str, reply: bytes) -> None:
        """Turn down what was properly asked for; that is no mistake of the client's."""
        counters.REFUSED.labels(reason).inc()
        self.say(reply)

    # -- the rest

    async def rset(self, arg: bytes) -> None:
        """RFC 5321 section 4.1.1.5."""
        self.reset()
        if self._idle():
            self.say(b"250 2.0.0 Ok\r\n")

    async def noop(self, arg: bytes) -> None:
        """RFC 5321 section 4.1.1.9."""
        if self._idle():
            self.say(b"250 2.0.0 Ok\r\n")

    async def vrfy(self, arg: bytes) -> None:
        """RFC 5321 section 3.5.3: we do not know."""
        if self._idle():
            self.say(b"252 2.5.2 Send some mail, it will be tried\r\n")

    async def help(self, arg: bytes) -> None:
        """RFC 5321 section 4.1.1.8."""
        if self._idle():
            self.say(b"214 2.0.0 See RFC 5321\r\n")

    async def quit(self, arg: bytes) -> None:
        """RFC 5321 section 4.1.1.10."""
        self.say(b"221 2.0.0 Bye\r\n")
        self.ending = True

    async def not_implemented(self, arg: bytes) -> None:
        """Known commands that are not offered."""
        self.bad(b"502 5.5.1 Not implemented\r\n")

    async def not_smtp(self, arg: bytes) -> None:
        """A web client, made to speak to us by somebody: nothing good follows."""
        self.hang_up("not_smtp", b"421 4.7.0 This is SMTP\r\n")

    def _idle(self) -> bool:
        """Count a command that leads nowhere; False, and the end, if there were too many since the last message."""
        self._idle_commands += 1
        if self._idle_commands <= IDLE_COMMANDS:
            return True
        self.hang_up("idle_commands", b"421 4.7.0 Too many commands without a message\r\n")
        return False


COMMANDS: dict[bytes, Callable[[Session, bytes], Awaitable[None]]] = {
    b"EHLO": Session.ehlo,
    b"HELO": Session.helo,
    b"STARTTLS": Session.starttls,
    b"MAIL": Session.mail,
    b"RCPT": Session.rcpt,
    b"DATA": Session.data,
    b"RSET": Session.rset,
    b"NOOP": Session.noop,
    b"VRFY": Session.vrfy,
    b"HELP": Session.help,
    b"QUIT": Session.quit,
    **dict.fromkeys((b"EXPN", b"AUTH", b"BDAT", b"ETRN", b"TURN"), Session.not_implemented),
    **dict.fromkeys((b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT"), Session.not_smtp),
}


def _shown(arg: bytes) -> str:
    return arg.decode("utf-8", "backslashreplace")
