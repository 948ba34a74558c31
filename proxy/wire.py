"""A message body on the wire: where it ends, what in it could smuggle a second one, how often it was relayed.

End of data is CRLF.CRLF and nothing else (RFC 5321 section 4.1.1.4). Because the bytes pass unchanged, sequences
that a careless handler could take for an end of data are the tap's business too: see `Smuggling`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

END_OF_DATA = b"\r\n.\r\n"
HEADER_LIMIT_BYTES = 1_000_000

# Within a body in wire form CRLF.CRLF cannot occur and a line of one dot is stuffed to two: so a lone dot between
# any two line-end characters has a bare CR or LF on at least one side. Looked for as plain substrings: this runs on
# the loop that serves everybody, and a regular expression takes seconds for 50 MB of line ends.
_LONE_DOTS = (b"\n.\n", b"\n.\r", b"\r.\n", b"\r.\r")
_STEP_BYTES = 1 << 20  # searched in one go; in between, other threads get their turn
_COALESCE_BYTES = 65536


class Splitter:
    """Finds the end of data in a stream of chunks; the result does not depend on how the stream was cut.

    `size_bytes` counts what was fed up to the end. After `discard()` nothing is kept, but the end is still found.
    """

    __slots__ = ("_chunks", "_keep", "_tail", "size_bytes")

    def __init__(self) -> None:
        self._chunks: list[bytes | bytearray] = []
        self._tail = b"\r\n"  # the line end of the DATA command itself: a body may be empty
        self._keep = True
        self.size_bytes = 0

    def feed(self, chunk: bytes | bytearray) -> bytes | None:
        """Take the next chunk; return what follows the end of data in it, or None if the end has not come."""
        end = (self._tail + chunk[:4]).find(END_OF_DATA)  # an end that began in an earlier chunk
        if end >= 0:
            end += len(END_OF_DATA) - len(self._tail)
        elif (start := chunk.find(END_OF_DATA)) >= 0:
            end = start + len(END_OF_DATA)
        if end < 0:
            self._tail = bytes(chunk[-4:]) if len(chunk) >= 4 else (self._tail + chunk)[-4:]
            self._add(chunk)
            return None
        self._add(chunk if end == len(chunk) else chunk[:end])
        return bytes(chunk[end:])

    def discard(self) -> None:
        """Forget the body so far and keep nothing of what comes."""
        self._keep = False
        self._chunks.clear()

    @property
    def discarded(self) -> bool:
        """True once `discard` was called."""
        return not self._keep

    def wire(self) -> bytes:
        """The body before the terminating dot line, after `feed` found that."""
        chunks, self._chunks = self._chunks, []
        rest = len(b".\r\n")
        while rest:  # cut off before joining: there is one copy of a large body less
            last = chunks.pop()
            if len(last) > rest:
                chunks.append(last[:-rest])
            rest = max(0, rest - len(last))
        return b"".join(chunks)

    def _add(self, chunk: bytes | bytearray) -> None:
        self.size_bytes += len(chunk)
        if not self._keep:
            return
        last = self._chunks[-1] if self._chunks else b""
        if isinstance(last, bytearray) and len(last) < _COALESCE_BYTES:
            last += chunk  # a sender of single bytes must not cost a hundred bytes of memory for each
        else:
            self._chunks.append(chunk)


class Smuggling(StrEnum):
    """What is done about bare CR and bare LF (`[proxy] smuggling`).

    refuse: only a lone dot beside one is refused, others pass and are counted. strict: any is refused.
    normalize: each becomes CRLF, as a mail server that cannot carry them would have done.
    """

    REFUSE = "refuse"
    STRICT = "strict"
    NORMALIZE = "normalize"


@dataclass(frozen=True, slots=True)
class Inspected:
    """A body after the smuggling policy: what to hand on, and what was found in it."""

    wire: bytes
    bare_cr: int = 0
    bare_lf: int = 0
    refused: str = ""  # our reply, code and text, or ""


def inspect(wire: bytes, policy: Smuggling) -> Inspected:
    """Apply the policy to a body in wire form (empty, or ending in CRLF). Up to a second for 50 MB of line ends."""
    crlf = _count(wire, b"\r\n")
    bare_cr, bare_lf = _count(wire, b"\r") - crlf, _count(wire, b"\n") - crlf
    if not bare_cr and not bare_lf:
        return Inspected(wire)
    if policy is Smuggling.NORMALIZE:
        return Inspected(normalized(wire), bare_cr, bare_lf)
    if policy is Smuggling.STRICT:
        return Inspected(wire, bare_cr, bare_lf, "554 5.6.11 Bare CR or LF is not accepted")
    if wire.startswith((b".\r", b".\n")) or any(_count(wire, dot) for dot in _LONE_DOTS):
        return Inspected(wire, bare_cr, bare_lf, "554 5.6.11 Dot between bare CR or LF is not accepted")
    return Inspected(wire, bare_cr, bare_lf)


def _count(wire: bytes, octets: bytes) -> int:
    """How often `octets` occur; more than never, at least, where they can overlap themselves."""
    if len(wire) <= _STEP_BYTES:
        return wire.count(octets)
    beyond = len(octets) - 1
    return sum(wire.count(octets, at, at + _STEP_BYTES + beyond) for at in range(0, len(wire), _STEP_BYTES))


def normalized(wire: bytes) -> bytes:
    """The body with each bare CR and bare LF made CRLF, stuffed anew: a new line may begin with a dot."""
    body = wire.removeprefix(b".").replace(b"\r\n.", b"\r\n")
    body = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n").replace(b"\r\n.", b"\r\n..")
    return b"." + body if body.startswith(b".") else body


def received_count(wire: bytes) -> int:
    """How many Received fields the header has (RFC 5321 section 6.3), looking at its first megabyte.

    A bounce carries more of them inside the copy it returns; those do not count.
    """
    if wire.startswith(b"\r\n"):
        return 0
    end = wire.find(b"\r\n\r\n", 0, HEADER_LIMIT_BYTES)
    header = wire[: end if end >= 0 else HEADER_LIMIT_BYTES].lower()
    return header.count(b"\nreceived:") + header.startswith(b"received:")
