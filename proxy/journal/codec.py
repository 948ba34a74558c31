"""Entries and marks to bytes and back: compact, versioned, bounded.

An entry's wire bytes come last, so that its envelope can be read without them. Every length is checked against what
is there; anything else than what `encode` makes is a `DamageError`, never another exception.
"""

from __future__ import annotations

import struct

from proxy.journal.errors import DamageError, JournalError
from proxy.journal.records import Entry, Fate, Mark, Record

ENTRY = 1
MARK = 2
TEXT_CHARS = 500
MAX_PAYLOAD_BYTES = 1 << 31

_VERSION = 1
_SMTPUTF8 = 1
# version, flags, received_ns, digest, lengths of: id, peer, helo, tls, proxied_for, refused, copied_from, mail_arg;
# number of recipients, length of wire
_ENTRY = struct.Struct("<BBq32sBHHHHHHHII")
# version, fate, at_ns, code, answered, lengths of: id, text, host, moved_to; number of recipients
_MARK = struct.Struct("<BBqHhBHHHI")
_FATES: tuple[Fate | None, ...] = (
    None,
    Fate.OPEN,
    Fate.FORWARDED,
    Fate.REJECTED,
    Fate.IN_DOUBT,
    Fate.DEAD,
    Fate.DROPPED,
)
_FATE_NUMBERS = {fate: number for number, fate in enumerate(_FATES)}
_NOT_ANSWERED = -1


def _text(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def encode_entry(entry: Entry) -> tuple[bytes, bytes]:
    """(everything but the wire bytes, the wire bytes); raises JournalError for what does not fit."""
    strings = (
        _text(entry.id),
        _text(entry.peer),
        entry.helo,
        _text(entry.tls),
        _text(entry.proxied_for),
        _text(entry.refused),
        _text(entry.copied_from),
        entry.mail_arg,
    )
    if len(entry.digest) != 32 or len(entry.wire) >= MAX_PAYLOAD_BYTES:
        raise JournalError("an entry needs a 32-byte digest and fewer than 2 GiB")
    try:
        fixed = _ENTRY.pack(
            _VERSION,
            _SMTPUTF8 if entry.smtputf8 else 0,
            entry.received_ns,
            entry.digest,
            *map(len, strings),
            len(entry.rcpt_args),
            len(entry.wire),
        )
        lengths = struct.pack(f"<{len(entry.rcpt_args)}H", *map(len, entry.rcpt_args))
    except struct.error as error:
        raise JournalError(f"an entry's field is too long: {error}") from error
    return b"".join((fixed, *strings, lengths, *entry.rcpt_args)), entry.wire


def encode_mark(mark: Mark) -> bytes:
    """A mark's bytes, its text cut at 500 characters; raises JournalError for what does not fit."""
    strings = (_text(mark.id), _text(mark.text[:TEXT_CHARS]), _text(mark.host), _text(mark.moved_to))
    answered = _NOT_ANSWERED if mark.answered is None else mark.answered
    try:
        fixed = _MARK.pack(
            _VERSION,
            _FATE_NUMBERS[mark.fate],
            mark.at_ns,
            mark.code,
            answered,
            *map(len, strings),
            len(mark.rcpts),
        )
        return b"".join((fixed, *strings, struct.pack(f"<{len(mark.rcpts)}I", *mark.rcpts)))
    except struct.error as error:
        raise JournalError(f"a mark's field is too long: {error}") from error


def decode(kind: int, payload: bytes, *, body: bool = True) -> Record | None:
    """The record, None for a kind of record that this version does not know; raises DamageError.

    Without `body`, `wire` is left empty and `payload` may end where the wire bytes begin, or later.
    """
    try:
        if kind == ENTRY:
            return _decode_entry(payload, body=body)
        if kind == MARK:
            return _decode_mark(payload)
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise DamageError(f"not a record: {error}") from error
    return None


def _split(payload: bytes, at: int, lengths: tuple[int, ...]) -> tuple[list[bytes], int]:
    parts = []
    for length in lengths:
        parts.append(payload[at : at + length])
        at += length
    if at > len(payload):
        raise DamageError("a record is shorter than it says")
    return parts, at


def _decode_entry(payload: bytes, *, body: bool) -> Entry:
    version, flags, received_ns, digest, *lengths, rcpts, wire_bytes = _ENTRY.unpack_from(payload)
    if version != _VERSION:
        raise DamageError(f"entry version {version}")
    strings, at = _split(payload, _ENTRY.size, tuple(lengths))
    ident, peer, helo, tls, proxied_for, refused, copied_from, mail_arg = strings
    if at + 2 * rcpts > len(payload):
        raise DamageError("a record is shorter than it says")
    rcpt_lengths = struct.unpack_from(f"<{rcpts}H", payload, at)
    rcpt_args, at = _split(payload, at + 2 * rcpts, rcpt_lengths)
    if body and at + wire_bytes != len(payload):
        raise DamageError("an entry's length is not what it says")
    return Entry(
        id=ident.decode("utf-8", "surrogatepass"),
        received_ns=received_ns,
        peer=peer.decode("utf-8", "surrogatepass"),
        helo=helo,
        tls=tls.decode("utf-8", "surrogatepass"),
        mail_arg=mail_arg,
        rcpt_args=tuple(rcpt_args),
        wire=payload[at:] if body else b"",
        digest=digest,
        smtputf8=bool(flags & _SMTPUTF8),
        proxied_for=proxied_for.decode("utf-8", "surrogatepass"),
        refused=refused.decode("utf-8", "surrogatepass"),
        copied_from=copied_from.decode("utf-8", "surrogatepass"),
    )


def _decode_mark(payload: bytes) -> Mark:
    version, fate, at_ns, code, answered, *lengths, rcpts = _MARK.unpack_from(payload)
    if version != _VERSION:
        raise DamageError(f"mark version {version}")
    strings, at = _split(payload, _MARK.size, tuple(lengths))
    if at + 4 * rcpts != len(payload):
        raise DamageError("a mark's length is not what it says")
    ident, text, host, moved_to = (value.decode("utf-8", "surrogatepass") for value in strings)
    return Mark(
        id=ident,
        at_ns=at_ns,
        rcpts=struct.unpack_from(f"<{rcpts}I", payload, at),
        fate=_FATES[fate],
        code=code,
        text=text,
        host=host,
        answered=None if answered == _NOT_ANSWERED else answered,
        moved_to=moved_to,
    )
