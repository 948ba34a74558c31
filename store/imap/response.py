"""How values look on the wire: the server's half of the grammar of RFC 3501 section 9.

All functions are pure, take and give bytes, and never give a NUL: IMAP cannot carry one, so it is shown as 0x80.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence

_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_UNQUOTABLE = re.compile(rb"[\x00\r\n\x80-\xff]")
_ATOM = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+\Z")
_QUOTED_LIMIT = 1000  # what is longer travels as a literal: some clients have line buffers


def shown(data: bytes) -> bytes:
    """`data` as IMAP can show it: each NUL as 0x80, all else and the length unchanged."""
    return data.replace(b"\0", b"\x80") if b"\0" in data else data


def literal(data: bytes) -> bytes:
    """A literal, `{n}` CRLF and the bytes."""
    return b"{%d}\r\n%b" % (len(data), shown(data))


def string(data: bytes) -> bytes:
    """A quoted string where the bytes allow one, else a literal."""
    if len(data) > _QUOTED_LIMIT or _UNQUOTABLE.search(data):
        return literal(data)
    return b'"%b"' % data.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def nstring(data: bytes | None) -> bytes:
    """`string`, or NIL for None."""
    return b"NIL" if data is None else string(data)


def astring(data: bytes) -> bytes:
    """An atom where the bytes allow one (mailbox names), else `string`."""
    return data if _ATOM.match(data) and data.upper() != b"NIL" else string(data)


def parenthesized(items: Iterable[bytes]) -> bytes:
    """The items in parentheses, with spaces between."""
    return b"(%b)" % b" ".join(items)


def internal_date(at_s: int) -> bytes:
    """A date-time in UTC, quoted; `at_s` is Unix time."""
    t = time.gmtime(at_s)
    return b'"%2d-%b-%04d %02d:%02d:%02d +0000"' % (t[2], _MONTHS[t[1] - 1], t[0], t[3], t[4], t[5])


def uid_set(uids: Sequence[int]) -> bytes:
    """A compact sequence set (`1:3,7`) of numbers in the order given; `uids` must not be empty."""
    ranges: list[bytes] = []
    first = last = uids[0]
    for uid in [*uids[1:], -1]:
        if uid == last + 1:
            last = uid
            continue
        ranges.append(b"%d" % first if first == last else b"%d:%d" % (first, last))
        first = last = uid
    return b",".join(ranges)


def text(words: str) -> bytes:
    """Human-readable response text: one line of printable ASCII, never empty."""
    return re.sub(rb"[^ -~]", b"?", words.encode("ascii", "replace"))[:400] or b"done"
