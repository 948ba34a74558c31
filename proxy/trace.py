"""The Received field that `[proxy] add_received` puts in front of what is forwarded (RFC 5321 section 4.4).

The journal keeps what was received, without it. The field is made from what the journal has, so that a replay years
later sends the same bytes as the live forward would have; it names no recipient, since there may be several.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime

_UNSAFE = re.compile(r"[^A-Za-z0-9._:\[\]-]")


def received_field(
    *,
    hostname: str,
    peer: str,
    helo: bytes,
    tls: str,
    smtputf8: bool,
    id: str,  # noqa: A002  the journal's own name for it
    received_ns: int,
) -> bytes:
    """The field in wire form, CRLF included; `id`, `peer`, `helo`, `tls` and `received_ns` as in `Entry`."""
    name = _UNSAFE.sub("?", helo.decode("ascii", "replace"))[:255] or "unknown"
    ip = peer.rpartition(":")[0].strip("[]")
    literal = f"[IPv6:{ip}]" if ":" in ip else f"[{ip}]"
    protocol = ("UTF8SMTP" if smtputf8 else "ESMTP") + ("S" if tls else "")  # RFC 3848, RFC 6531 section 3.7.3
    date = format_datetime(datetime.fromtimestamp(received_ns / 1e9, UTC))
    lines = (f"Received: from {name} ({literal})", f"\tby {hostname} with {protocol} id {id};", f"\t{date}")
    return "".join(line + "\r\n" for line in lines).encode("ascii", "replace")
