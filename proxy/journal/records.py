"""What the journal holds, as frozen data: an `Entry` per message received, `Mark`s that tell what became of it.

Both are pure values; `codec.py` turns them into bytes and back. See the package docstring for the states.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Entry:
    """One message as it came in: the envelope as received and the body's wire bytes.

    `id` is globally unique and sorts by time (26 characters, Crockford base 32, ULID layout). `received_ns` is wall
    time (Unix, ns). `mail_arg` and `rcpt_args` are the arguments after `MAIL FROM:` and `RCPT TO:`, exactly as
    received, parameters included (`<a@b> SIZE=10`). `wire` is what stood between DATA's 354 and the final
    `.CRLF`, still dot-stuffed: it is empty or ends in CRLF; the terminating dot line is not part of it.
    `digest` is the SHA-256 over (mail_arg, rcpt_args, wire), the identity of a byte-identical resend.
    `refused` holds our own 5xx reply where the smuggling policy refused the message: such an entry is settled
    from the start, is filed as evidence, and is never forwarded. `copied_from` is the LSN:stream this entry was
    copied forward from ("" for a first copy): the filer passes over copies.
    """

    id: str
    received_ns: int
    peer: str
    helo: bytes
    tls: str
    mail_arg: bytes
    rcpt_args: tuple[bytes, ...]
    wire: bytes
    digest: bytes
    smtputf8: bool = False
    proxied_for: str = ""
    refused: str = ""
    copied_from: str = ""


class Fate(StrEnum):
    """What became of one recipient at the handler."""

    OPEN = "open"  # not yet tried, or a 4xx: to be replayed
    FORWARDED = "forwarded"  # the handler's 2xx
    REJECTED = "rejected"  # the handler's 5xx, passed on to the sender in time
    IN_DOUBT = "in_doubt"  # the dot was sent, the reply never came (RFC 1047)
    DEAD = "dead"  # a 5xx after our 250: a dead letter
    DROPPED = "dropped"  # given up by an operator


FINAL = frozenset({Fate.FORWARDED, Fate.REJECTED, Fate.DEAD, Fate.DROPPED})


@dataclass(frozen=True, slots=True)
class Mark:
    """A later fact about an entry. Marks ride the next commit; the last one about a thing wins.

    Either an outcome for the recipients in `rcpts` (indices into `Entry.rcpt_args`): `fate` with the handler's
    reply (`code`, `text`: first line, at most 500 characters) and its `host` ("192.0.2.1:25"); or, with
    `answered` set, the reply code that the sender got (0: recovered after a crash, none was sent).
    `at_ns` is wall time. `moved_to` is the journal's own: the LSN:stream where a copy of the entry now lives, whose
    later marks are there; readers may ignore it.
    """

    id: str
    at_ns: int
    rcpts: tuple[int, ...] = ()
    fate: Fate | None = None
    code: int = 0
    text: str = ""
    host: str = ""
    answered: int | None = None
    moved_to: str = ""


Record = Entry | Mark


@dataclass(frozen=True, slots=True)
class OpenEntry:
    """An entry with a recipient that still waits; `hosts` has, a recipient, the host of its last outcome or "".

    `answered` is as in `Mark`, None while the sender's answer is undecided. Times are Unix, ns.
    """

    id: str
    received_ns: int
    size_bytes: int
    fates: tuple[Fate, ...]
    hosts: tuple[str, ...]
    answered: int | None
    lsn: int
    stream: str


def unstuffed(wire: bytes) -> bytes:
    """The message as it was before dot-stuffing (RFC 5321 section 4.5.2): what every SHA-256 is of.

    Only a dot at the start of a line that CRLF ended (or of the message) was stuffed.
    """
    if wire.startswith(b"."):
        wire = wire[1:]
    return wire.replace(b"\r\n.", b"\r\n")
