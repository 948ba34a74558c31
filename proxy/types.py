"""The seam between the two halves of the proxy: what a session hands over, and who answers it with what.

`proxy/session.py` receives a message and gives it as `Incoming` to a `Deliver`, which answers with the `Reply`
for the sender. Nothing here knows of sockets, of the journal or of the handler.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message as received, before anything was done with it.

    `peer` is the sender's "ip:port" ("[ip]:port" for IPv6); behind a load balancer that is whom the PROXY header
    named, and `proxied_for` is then the balancer's own address, else "". `helo` is the HELO or EHLO argument.
    `tls` is "" or protocol and cipher, e.g. "TLSv1.3 TLS_AES_256_GCM_SHA384". `mail_arg` and `rcpt_args` are
    what stood after `MAIL FROM:` and `RCPT TO:`, parameters included, blanks at both ends stripped, otherwise
    as received. `wire` is the body in wire form: still dot-stuffed, empty or ending in CRLF, without the
    terminating dot line. `smtputf8` is true where MAIL carried that parameter (RFC 6531). `received_ns` is wall
    time (Unix, ns) at the final dot. `refused` is "" or our own 5xx reply (code and text in one line, no CRLF)
    where the smuggling policy refused the message: it is teed, answered with that, and never forwarded.
    `gone` tells whether the sender has been found to have left without waiting for its answer.
    """

    peer: str
    helo: bytes
    tls: str
    mail_arg: bytes
    rcpt_args: tuple[bytes, ...]
    wire: bytes
    smtputf8: bool
    received_ns: int
    proxied_for: str = ""
    refused: str = ""
    gone: Callable[[], bool] = field(default=bool, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """An SMTP reply (RFC 5321 section 4.2).

    `code` is 200..599; `lines` is the text after the code, one item a line, verbatim where it was passed through.
    No lines means one empty line.
    """

    code: int
    lines: tuple[bytes, ...]

    def encode(self) -> bytes:
        r"""The reply as it goes over the wire: `b"250-first\r\n250 last\r\n"`."""
        code = b"%d" % self.code
        if len(self.lines) == 1:
            return code + b" " + self.lines[0] + b"\r\n"
        *head, last = self.lines or (b"",)
        return b"".join([code + b"-" + line + b"\r\n" for line in head]) + code + b" " + last + b"\r\n"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What EHLO may offer beyond what the tap itself does: the intersection over all handlers, last known.

    `size_bytes` is the smallest SIZE that a handler announced, None if none did (or none was ever asked).
    """

    smtputf8: bool
    dsn: bool
    size_bytes: int | None


class Deliver(Protocol):
    """Who takes a received message: `proxy.delivery.Delivery`, or a stand-in in tests."""

    async def deliver(self, message: Incoming) -> tuple[Reply, str]:
        """Take the message; return the sender's reply and the message's id ("" if it was never recorded).

        Never raises but for cancellation, and that does not touch the message: the forward runs in its own task.
        """
        ...

    def answered(self, id: str, code: int) -> None:  # noqa: A002  the journal's own name for it
        """The reply with `code` has been written to the sender's socket.

        Not called where the sender was found gone before that.
        """
        ...

    def unanswered(self, id: str) -> None:  # noqa: A002  the journal's own name for it
        """The sender was found gone before the reply was written: its resend is a duplicate that we caused."""
        ...

    def capabilities(self) -> Capabilities:
        """What EHLO may offer now; cheap, called for each EHLO."""
        ...
