"""The lexical half of RFC 3501's grammar: atoms, strings, numbers, sets, dates, read one after another.

Every method either advances or raises ImapSyntaxError; nothing else is ever raised.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

_ATOM = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+")
_ASTRING = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+")
_LIST_MAILBOX = re.compile(rb"[!#$%&'*+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+")
_TAG = re.compile(rb"[!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]{1,128}")
_QUOTED = re.compile(rb'"((?:[^"\\\r\n\0]|\\["\\])*)"')
_ESCAPED = re.compile(rb'\\(["\\])')
_LITERAL = re.compile(rb"\{(\d{1,10})\+?\}\r?\n")
_NUMBER = re.compile(rb"\d{1,10}")
_SET = re.compile(rb"(?:\d{1,10}|\*)(?::(?:\d{1,10}|\*))?(?:,(?:\d{1,10}|\*)(?::(?:\d{1,10}|\*))?)*")
_DATE = re.compile(rb'("?)(\d{1,2})-([A-Za-z]{3})-(\d{4})\1')
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_UINT32 = 2**32


class ImapSyntaxError(ValueError):
    """The client's bytes are no IMAP; the text says where, in ASCII, without quoting them."""


@dataclass(frozen=True, slots=True)
class SequenceSet:
    """Ranges (first, last) of sequence numbers or UIDs, in the client's order; 0 stands for `*`."""

    ranges: tuple[tuple[int, int], ...]

    def resolved(self, largest: int) -> list[tuple[int, int]]:
        """The ranges sorted, joined where they touch, with `*` as `largest` and each first <= last."""
        spans = sorted((min(a or largest, b or largest), max(a or largest, b or largest)) for a, b in self.ranges)
        joined: list[tuple[int, int]] = []
        for first, last in spans:
            if joined and first <= joined[-1][1] + 1:
                joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
            else:
                joined.append((first, last))
        return joined

    def __bytes__(self) -> bytes:
        return b",".join(_edge(a) if a == b else _edge(a) + b":" + _edge(b) for a, b in self.ranges)


def _edge(number: int) -> bytes:
    return b"%d" % number if number else b"*"


class Scanner:
    """A position in one command's bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def error(self, expected: str) -> ImapSyntaxError:
        """The error that says what was expected here."""
        return ImapSyntaxError(f"{expected} expected at byte {self.at}")

    def _match(self, pattern: re.Pattern[bytes], expected: str) -> re.Match[bytes]:
        found = pattern.match(self._data, self.at)
        if found is None:
            raise self.error(expected)
        self.at = found.end()
        return found

    def peek(self, text: bytes) -> bool:
        """Whether `text` (any case) stands here."""
        return self._data[self.at : self.at + len(text)].upper() == text.upper()

    def accept(self, text: bytes) -> bool:
        """Step over `text` (any case) if it stands here."""
        if self.peek(text):
            self.at += len(text)
            return True
        return False

    def expect(self, text: bytes) -> None:
        """Step over `text`."""
        if not self.accept(text):
            raise self.error(repr(text.decode("ascii")))

    def space(self) -> None:
        """Step over a space (clients that send several are forgiven)."""
        self.expect(b" ")
        while self.accept(b" "):
            pass

    @property
    def at_end(self) -> bool:
        """Whether nothing but spaces is left."""
        return not self._data[self.at : self.at + 1].strip(b" ") and not self._data[self.at :].strip(b" ")

    def end(self) -> None:
        """Nothing may follow."""
        if not self.at_end:
            raise self.error("end of command")

    def tag(self) -> bytes:
        """A command's tag, at most 128 bytes."""
        return self._match(_TAG, "tag")[0]

    def atom(self) -> bytes:
        """An atom."""
        return self._match(_ATOM, "atom")[0]

    def word(self) -> str:
        """An atom in upper case, as text."""
        return self.atom().decode("ascii").upper()

    def number(self) -> int:
        """A number below 2**32."""
        value = int(self._match(_NUMBER, "number")[0])
        if value >= _UINT32:
            raise self.error("number below 2**32")
        return value

    def string(self) -> bytes:
        """A quoted string or a literal."""
        if self.peek(b'"'):
            return _ESCAPED.sub(rb"\1", self._match(_QUOTED, "quoted string")[1])
        size = int(self._match(_LITERAL, "string")[1])
        if self.at + size > len(self._data):
            raise self.error("whole literal")
        self.at += size
        return self._data[self.at - size : self.at]

    def astring(self) -> bytes:
        """An atom, where `]` counts too, or a string."""
        return self.string() if self.peek(b'"') or self.peek(b"{") else self._match(_ASTRING, "astring")[0]

    def list_mailbox(self) -> bytes:
        """A mailbox name that may hold wildcards."""
        return self.string() if self.peek(b'"') or self.peek(b"{") else self._match(_LIST_MAILBOX, "pattern")[0]

    def nstring(self) -> bytes | None:
        """A string or NIL."""
        return None if self.accept(b"NIL") else self.string()

    def sequence_set(self) -> SequenceSet:
        """A sequence set."""
        ranges = []
        for part in self._match(_SET, "sequence set")[0].split(b","):
            first, colon, last = part.partition(b":")
            ranges.append((self._edge(first), self._edge(last if colon else first)))
        return SequenceSet(tuple(ranges))

    def _edge(self, number: bytes) -> int:
        if number == b"*":
            return 0
        if not 0 < int(number) < _UINT32:
            raise self.error("number from 1 below 2**32")
        return int(number)

    def date(self) -> dt.date:
        """A date such as 1-Feb-2026, quoted or not."""
        _, day, month, year = self._match(_DATE, "date").groups()
        try:
            return dt.date(int(year), _MONTHS.index(month.decode().lower()) + 1, int(day))
        except ValueError:
            raise self.error("valid date") from None
