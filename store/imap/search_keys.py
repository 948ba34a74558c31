"""SEARCH's arguments (RFC 3501 section 6.4.4, RESULT options of RFC 4731) as a tree of frozen keys.

Nesting is bounded; raises ImapSyntaxError and nothing else.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from store.imap.scanner import ImapSyntaxError, Scanner, SequenceSet

_DEPTH_LIMIT = 40


@dataclass(frozen=True, slots=True)
class All:
    """Every message."""


@dataclass(frozen=True, slots=True)
class And:
    """All of these."""

    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Either of these."""

    one: Key
    other: Key


@dataclass(frozen=True, slots=True)
class Not:
    """All but these."""

    key: Key


@dataclass(frozen=True, slots=True)
class Flag:
    """A system flag (with backslash) or a keyword, lower case."""

    flag: bytes


@dataclass(frozen=True, slots=True)
class Numbers:
    """A sequence set, of UIDs or of sequence numbers."""

    messages: SequenceSet
    uid: bool


@dataclass(frozen=True, slots=True)
class Day:
    """A day to compare with: `when` is BEFORE, ON or SINCE; `sent` asks for the Date field's day."""

    when: str
    day: dt.date
    sent: bool


@dataclass(frozen=True, slots=True)
class Size:
    """LARGER or (not `larger`) SMALLER than so many octets."""

    larger: bool
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Text:
    """A text to be found: `where` is BODY, TEXT or a header field's lower-case name with a colon."""

    where: str
    value: bytes


Key = All | And | Or | Not | Flag | Numbers | Day | Size | Text


@dataclass(frozen=True, slots=True)
class Search:
    """SEARCH: `charset` of the texts as the client named it; `returns` None for a plain SEARCH response."""

    key: Key
    charset: str = "US-ASCII"
    returns: tuple[str, ...] | None = None


_SYSTEM_FLAGS = ("ANSWERED", "DELETED", "DRAFT", "FLAGGED", "SEEN", "RECENT")
_FLAGS = {name: b"\\" + name.lower().encode() for name in _SYSTEM_FLAGS}
_RETURNS = ("MIN", "MAX", "ALL", "COUNT")


def parse_search(s: Scanner) -> Search:
    """Read what follows SEARCH."""
    s.space()
    returns: tuple[str, ...] | None = None
    if s.accept(b"RETURN ("):
        found: list[str] = []
        while not s.accept(b")"):
            option = s.word()
            if option not in _RETURNS:
                raise ImapSyntaxError("unknown RETURN option")
            found.append(option)
            s.accept(b" ")
        returns = tuple(dict.fromkeys(found)) or ("ALL",)
        s.space()
    charset = "US-ASCII"
    if s.accept(b"CHARSET "):
        charset = s.astring().decode("ascii", "replace")
        s.space()
    keys = [_key(s, 0)]
    while not s.at_end:
        s.space()
        keys.append(_key(s, 0))
    return Search(keys[0] if len(keys) == 1 else And(tuple(keys)), charset, returns)


def _key(s: Scanner, depth: int) -> Key:
    if depth > _DEPTH_LIMIT:
        raise ImapSyntaxError("SEARCH nested too deeply")
    if s.accept(b"("):
        keys = [_key(s, depth + 1)]
        while not s.accept(b")"):
            s.space()
            keys.append(_key(s, depth + 1))
        return keys[0] if len(keys) == 1 else And(tuple(keys))
    if s.peek(b"*") or any(s.peek(b"%d" % digit) for digit in range(10)):
        return Numbers(s.sequence_set(), uid=False)
    name = s.word()
    if name in ("OR", "NOT"):
        s.space()
        key = _key(s, depth + 1)
        if name == "NOT":
            return Not(key)
        s.space()
        return Or(key, _key(s, depth + 1))
    simple = _without_argument(name)
    return simple if simple is not None else _with_argument(s, name)


def _without_argument(name: str) -> Key | None:
    if name == "ALL":
        return All()
    if name == "NEW":
        return And((Flag(b"\\recent"), Not(Flag(b"\\seen"))))
    if name == "OLD":
        return Not(Flag(b"\\recent"))
    if name in _FLAGS:
        return Flag(_FLAGS[name])
    if name.startswith("UN") and name[2:] in _FLAGS and name != "UNRECENT":
        return Not(Flag(_FLAGS[name[2:]]))
    return None


def _with_argument(s: Scanner, name: str) -> Key:
    s.space()
    if name in ("KEYWORD", "UNKEYWORD"):
        flag = Flag(s.atom().lower())
        return flag if name == "KEYWORD" else Not(flag)
    if name in ("LARGER", "SMALLER"):
        return Size(name == "LARGER", s.number())
    if name == "UID":
        return Numbers(s.sequence_set(), uid=True)
    if name.removeprefix("SENT") in ("BEFORE", "ON", "SINCE"):
        return Day(name.removeprefix("SENT"), s.date(), sent=name.startswith("SENT"))
    if name in ("BODY", "TEXT"):
        return Text(name, s.astring())
    if name in ("BCC", "CC", "FROM", "SUBJECT", "TO"):
        return Text(name.lower() + ":", s.astring())
    if name == "HEADER":
        field = s.astring().decode("ascii", "replace").strip().rstrip(":").lower() + ":"
        s.space()
        return Text(field, s.astring())
    raise ImapSyntaxError("unknown SEARCH key")
