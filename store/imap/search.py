"""SEARCH: which messages a tree of keys matches, cheap keys first, over a folder's columns.

`matches` is a generator that yields between bounded pieces of work and returns the positions found; it may block
(it reads messages through `Source`) and is meant to be advanced in a thread.
"""

from __future__ import annotations

import calendar
import email.utils
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from store.imap.columns import ANSWERED, DELETED, SEEN, Columns
from store.imap.scanner import ImapSyntaxError, Scanner
from store.imap.search_keys import All, And, Day, Flag, Key, Not, Numbers, Or, Size, Text
from store.imap.text import body_text, decode_words, field_text, header_text
from store.imap.view import View

_OWN_BITS = {b"\\seen": SEEN, b"\\answered": ANSWERED, b"\\deleted": DELETED}
_ENVELOPE_FIELDS = (
    *("date:", "subject:", "from:", "sender:", "reply-to:", "to:", "cc:", "bcc:", "in-reply-to:", "message-id:"),
)
_IN_ENVELOPE = frozenset(_ENVELOPE_FIELDS) - {"sender:", "reply-to:", "date:"}  # those two may stand for From
_ENVELOPE_CHUNK, _TEXT_CHUNK = 500, 32
_TEXT_CHUNK_BYTES = 1_000_000  # of messages in memory at once, unless one alone is larger
_DAY_S = 86_400
_WORDS = re.compile(rb"[a-z0-9]+")

Positions = Sequence[int]
Work = Generator[None, None, Positions]


class BadCharset(Exception):
    """The named charset is unknown, or the text is not in it (RFC 3501 section 6.4.4: NO [BADCHARSET])."""


class Source(Protocol):
    """Where a search reads what the columns lack. Both block, and leave out what has gone meanwhile."""

    def envelopes(self, uids: Sequence[int]) -> Mapping[int, bytes]:
        """ENVELOPE values by UID."""

    def texts(self, uids: Sequence[int]) -> Mapping[int, bytes]:
        """Messages as IMAP shows them, by UID."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The columns as they are when a search begins: a later expunge leaves these arrays alone."""

    uids: array[int]
    received_s: array[int]
    sizes: array[int]
    sets: array[int]
    bits: bytearray
    folded: list[frozenset[bytes]]
    view_uids: array[int]  # those of the session, which sequence numbers count
    view_count: int
    is_recent: Callable[[int], bool]

    @staticmethod
    def of(view: View) -> Snapshot:
        """Of a session's view."""
        c: Columns = view.columns
        bits = c.accounts[view.account].bits
        return Snapshot(
            c.uids, c.received_s, c.sizes, c.sets, bits, c.flag_sets.folded, view.uids, view.count, view.is_recent
        )

    def known(self) -> Positions:
        """Positions of the messages that the session knows."""
        if self.view_uids is self.uids:
            return range(self.view_count)
        known = set(self.view_uids[: self.view_count])
        return [p for p in range(len(self.uids)) if self.uids[p] in known]


def decode(key: Key, charset: str) -> Key:
    """All texts of a tree as case-folded UTF-8; `charset` is one that Python knows. Raises BadCharset."""
    try:
        if isinstance(key, Text):
            return Text(key.where, key.value.decode(charset).casefold().encode())
    except UnicodeError as error:
        raise BadCharset(charset) from error
    if isinstance(key, And):
        return And(tuple(decode(k, charset) for k in key.keys))
    if isinstance(key, Or):
        return Or(decode(key.one, charset), decode(key.other, charset))
    return Not(decode(key.key, charset)) if isinstance(key, Not) else key


def matches(key: Key, snapshot: Snapshot, source: Source) -> Work:
    """The positions of `snapshot` that a decoded key matches, ascending."""
    return (yield from _Search(snapshot, source).among(key, snapshot.known()))


def _cost(key: Key) -> int:
    if isinstance(key, And):
        return max(map(_cost, key.keys))
    if isinstance(key, Or):
        return max(_cost(key.one), _cost(key.other))
    if isinstance(key, Not):
        return _cost(key.key)
    if isinstance(key, Text):
        return 1 if key.where in _IN_ENVELOPE else 2
    return 1 if isinstance(key, Day) and key.sent else 0


class _Search:
    def __init__(self, snapshot: Snapshot, source: Source) -> None:
        self._s = snapshot
        self._source = source

    def among(self, key: Key, positions: Positions) -> Work:
        """Those of `positions` that match."""
        if not positions or isinstance(key, All):
            return positions
        if isinstance(key, And):
            for one in sorted(key.keys, key=_cost):
                positions = yield from self.among(one, positions)
            return positions
        if isinstance(key, Or):
            first, second = sorted((key.one, key.other), key=_cost)
            found = set((yield from self.among(first, positions)))
            found |= set((yield from self.among(second, [p for p in positions if p not in found])))
            return [p for p in positions if p in found]
        if isinstance(key, Not):
            without = set((yield from self.among(key.key, positions)))
            return [p for p in positions if p not in without]
        if isinstance(key, Text) or (isinstance(key, Day) and key.sent):
            return (yield from self._read(key, positions))
        yield
        return self._columns(key, positions)

    def _columns(self, key: Key, positions: Positions) -> Positions:
        s = self._s
        if isinstance(key, Flag):
            return self._flag(key.flag, positions)
        if isinstance(key, Size):
            sizes, limit = s.sizes, key.size_bytes
            if key.larger:
                return [p for p in positions if sizes[p] > limit]
            return [p for p in positions if sizes[p] < limit]
        if isinstance(key, Day):
            start = calendar.timegm(key.day.timetuple())
            first = float("-inf") if key.when == "BEFORE" else start
            end = {"BEFORE": start, "ON": start + _DAY_S}.get(key.when, float("inf"))
            received = s.received_s
            return [p for p in positions if first <= received[p] < end]
        if isinstance(key, Numbers):
            return self._numbers(key, positions)
        raise AssertionError(key)

    def _flag(self, flag: bytes, positions: Positions) -> Positions:
        s = self._s
        if bit := _OWN_BITS.get(flag):
            bits = s.bits
            return [p for p in positions if bits[p] & bit]
        if flag == b"\\recent":
            return [p for p in positions if s.is_recent(s.uids[p])]
        hit, sets = bytes(flag in names for names in s.folded), s.sets
        limit = len(hit)  # sets that came up meanwhile do not count yet
        return [p for p in positions if sets[p] < limit and hit[sets[p]]]

    def _numbers(self, key: Numbers, positions: Positions) -> Positions:
        s = self._s
        wanted: set[int] = set()
        if key.uid:
            spans = key.messages.resolved(s.view_uids[s.view_count - 1] if s.view_count else 0)
        elif not s.view_count:
            return []
        else:
            spans = key.messages.resolved(s.view_count)
            if spans[-1][1] > s.view_count:
                raise ImapSyntaxError("no such message")
            spans = [(s.view_uids[a - 1], s.view_uids[b - 1]) for a, b in spans]
        for a, b in spans:
            wanted.update(range(bisect_left(s.uids, a), bisect_right(s.uids, b)))
        return [p for p in positions if p in wanted]

    def _read(self, key: Text | Day, positions: Positions) -> Work:
        """Keys that need the envelope or the whole message, a chunk at a time."""
        found: list[int] = []
        by_envelope = _cost(key) == 1
        test = _test(key)
        for chunk in self._chunks(positions, by_envelope=by_envelope):
            yield
            uids = [self._s.uids[p] for p in chunk]
            values = self._source.envelopes(uids) if by_envelope else self._source.texts(uids)
            found += [p for p, uid in zip(chunk, uids, strict=True) if (v := values.get(uid)) is not None and test(v)]
        return found

    def _chunks(self, positions: Positions, *, by_envelope: bool) -> Iterator[Positions]:
        """`positions` in pieces that fit what must be read for each."""
        if by_envelope:
            for start in range(0, len(positions), _ENVELOPE_CHUNK):
                yield positions[start : start + _ENVELOPE_CHUNK]
            return
        start = held = 0
        for at, position in enumerate(positions):
            size_bytes = self._s.sizes[position]
            if at > start and (at - start == _TEXT_CHUNK or held + size_bytes > _TEXT_CHUNK_BYTES):
                yield positions[start:at]
                start, held = at, 0
            held += size_bytes
        yield positions[start:]


def _test(key: Text | Day) -> Callable[[bytes], bool]:
    """A test of one envelope or one message."""
    if isinstance(key, Day):
        return lambda envelope: _sent(key, envelope)
    needle = key.value.decode()
    if key.where in _IN_ENVELOPE:
        number = _ENVELOPE_FIELDS.index(key.where)
        words = _WORDS.findall(needle.encode())
        return lambda envelope: _may_hold(envelope, needle, words) and _in_envelope(envelope, number, needle)
    if key.where == "BODY":
        return lambda raw: needle in body_text(raw)
    if key.where == "TEXT":
        return lambda raw: needle in header_text(raw) or needle in body_text(raw)
    name = key.where.removesuffix(":").encode()
    return lambda raw: any(needle in value for value in field_text(raw, name))


def _sent(key: Day, envelope: bytes) -> bool:
    value = _envelope_value(envelope, 0)
    parsed = email.utils.parsedate(value.decode("ascii", "replace")) if isinstance(value, bytes) else None
    if parsed is None:
        return False
    day, wanted = parsed[:3], (key.day.year, key.day.month, key.day.day)
    return day < wanted if key.when == "BEFORE" else day == wanted if key.when == "ON" else day >= wanted


def _may_hold(envelope: bytes, needle: str, words: Sequence[bytes]) -> bool:
    """False only if the envelope cannot hold the needle: where nothing is encoded, each of its words must be there."""
    if not envelope.isascii() or b"=?" in envelope:
        return True
    folded = envelope.lower()
    return needle.isascii() and all(word in folded for word in words)


def _in_envelope(envelope: bytes, number: int, needle: str) -> bool:
    value = _envelope_value(envelope, number)
    if isinstance(value, bytes):
        return needle in decode_words(value)
    return any(needle in decode_words(one) for one in value or ())


def _envelope_value(envelope: bytes, number: int) -> bytes | list[bytes] | None:
    """One field of an ENVELOPE: a string, or the addresses written `name <mailbox@host>`."""
    s = Scanner(envelope)
    s.expect(b"(")
    value: bytes | list[bytes] | None = None
    for _ in range(number + 1):
        value = _addresses(s) if s.accept(b"(") else s.nstring()
        s.accept(b" ")
    return value


def _addresses(s: Scanner) -> list[bytes]:
    found = []
    while s.accept(b"("):
        parts: list[bytes | None] = []
        for _ in range(4):
            parts.append(s.nstring())
            s.accept(b" ")
        s.expect(b")")
        name, _, mailbox, host = parts
        found.append(b"%b <%b%b>" % (name or b"", mailbox or b"", b"@" + host if host else b""))
    s.expect(b")")
    return found
