"""What one handler offers in its EHLO reply, and an envelope cut down to that (RFC 5321 section 4.1.1.1).

Parameters that the host does not know would be answered 555; they are dropped, and nothing else is touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proxy.address import AddressError, parse_mail, parse_rcpt


@dataclass(frozen=True, slots=True)
class Offers:
    """The extensions that matter here; `size_bytes` is None where SIZE names no limit (RFC 1870), or is not offered."""

    pipelining: bool = False
    eight_bit: bool = False
    smtputf8: bool = False
    dsn: bool = False
    size: bool = False
    size_bytes: int | None = None
    xclient: frozenset[str] = frozenset()  # the attributes it takes, in capitals
    starttls: bool = False

    @classmethod
    def parse(cls, extensions: Mapping[str, str]) -> Offers:
        """From keywords (any case) and their parameters."""
        found = {keyword.upper(): params for keyword, params in extensions.items()}
        size = found.get("SIZE", "").strip()
        return cls(
            pipelining="PIPELINING" in found,
            eight_bit="8BITMIME" in found,
            smtputf8="SMTPUTF8" in found,
            dsn="DSN" in found,
            size="SIZE" in found,
            size_bytes=int(size) if size.isascii() and size.isdigit() and int(size[:20]) > 0 else None,
            xclient=frozenset(found.get("XCLIENT", "").upper().split()),
            starttls="STARTTLS" in found,
        )

    def mail(self, arg: bytes) -> bytes:
        """MAIL's argument, without the parameters that this host lacks."""
        unknown = {
            *(() if self.size else (b"SIZE",)),
            *(() if self.eight_bit else (b"BODY",)),
            *(() if self.smtputf8 else (b"SMTPUTF8",)),
            *(() if self.dsn else (b"RET", b"ENVID")),
        }
        if arg.endswith(b">") or not unknown:
            return arg
        try:
            return _without(arg, len(parse_mail(arg).address) + 2, unknown)
        except AddressError:  # an operator's resend, perhaps: the handler will say what it thinks of it
            return arg

    def rcpts(self, args: Sequence[bytes]) -> list[bytes]:
        """RCPT's arguments, likewise."""
        return list(args) if self.dsn else [_rcpt(arg) for arg in args]


def _rcpt(arg: bytes) -> bytes:
    if arg.endswith(b">"):
        return arg
    try:
        return _without(arg, len(parse_rcpt(arg, smtputf8=True).address) + 2, {b"NOTIFY", b"ORCPT"})
    except AddressError:
        return arg


def _without(arg: bytes, path_bytes: int, unknown: set[bytes]) -> bytes:
    words = arg[path_bytes:].split()
    kept = [word for word in words if word.partition(b"=")[0].upper() not in unknown]
    return arg if len(kept) == len(words) else b" ".join([arg[:path_bytes], *kept])
