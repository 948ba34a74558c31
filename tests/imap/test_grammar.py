"""Framing and grammar: round trips, any bytes at all, and any way of cutting the stream."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.imap import framing
from store.imap.framing import CommandStream, Complete, Continue, Event, Refused
from store.imap.grammar import Command, Fetch, FetchItem, Login, Mailbox, Store, parse, tag_of
from store.imap.names import decode_name, encode_name, name_matches
from store.imap.response import string, uid_set
from store.imap.scanner import ImapSyntaxError, Scanner, SequenceSet
from store.imap.search_keys import And, Day, Flag, Not, Numbers, Or, Search, Size, Text
from store.imap.structure import Section

any_text = st.binary(max_size=200)


def events(data: bytes, cuts: list[int]) -> list[Event]:
    """What a stream tells of `data`, fed in pieces."""
    stream, found = CommandStream(), []
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        stream.feed(data[start:end])
        while (event := stream.next()) is not None:
            found.append(event)
    return found


pieces = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([b"\r\n", b"\n", b"{3}\r\nabc", b"{3+}\r\nabc", b"{70000+}\r\n", b"{99999999999+}\r\n", b'"']),
    st.sampled_from([b"a NOOP\r\n", b"b APPEND x {10+}\r\n0123456789\r\n", b"c LOGIN {1}\r\na {1+}\r\nb\r\n"]),
)


@given(st.lists(pieces, max_size=12).map(b"".join), st.lists(st.integers(0, 2000), max_size=8))
def test_cutting_makes_no_difference(data: bytes, cuts: list[int]) -> None:
    whole = events(data, [])
    assert events(data, cuts) == whole
    assert events(data, list(range(len(data)))) == whole


@given(st.one_of(any_text, any_text.map(lambda rest: b"a " + rest)))
def test_only_syntax_errors_are_raised(data: bytes) -> None:
    try:
        parse(data)
    except ImapSyntaxError:
        tag_of(data)


words = st.sampled_from(
    b'( ) [ ] { } " \\ * % 1 0 1:* 4294967296 UID FETCH SEARCH STORE BODY[ BODY.PEEK[ 1.2 HEADER TEXT MIME '
    b"HEADER.FIELDS <0.5> FLAGS +FLAGS.SILENT NOT OR CHARSET utf-8 KEYWORD SINCE 1-Feb-2026 31-Feb-2026 LARGER "
    b"RETURN ( ALL COUNT {3} {3}\r\nabc LOGIN LIST STATUS ID NIL AUTHENTICATE PLAIN = ==".split(b" ")
)


@given(st.lists(words, max_size=14).map(b" ".join), st.booleans())
def test_almost_commands_raise_only_syntax_errors(text: bytes, joined: bool) -> None:
    with contextlib.suppress(ImapSyntaxError):
        parse(b"a " + (text.replace(b" ", b"") if joined else text))


def test_long_lines_and_commands_are_dropped_whole() -> None:
    long = b"a LOGIN " + b"x" * framing.LINE_LIMIT_BYTES + b"\r\nb NOOP\r\n"
    for cuts in ([], [5, 65_536, 65_540], list(range(0, len(long), 1000))):
        assert events(long, cuts) == [Refused(b"a"), Complete(b"b NOOP")]
    many = b"c SEARCH" + b" TEXT {60000+}\r\n" + (b"y" * 60_000 + b" TEXT {60000+}\r\n") * 20 + b"y" * 60_000 + b"\r\n"
    assert events(many + b"d NOOP\r\n", []) == [Refused(b"c"), Complete(b"d NOOP")]
    stream = CommandStream()
    for _ in range(100):
        stream.feed(b"z" * 60_000)
        assert stream.next() is None
        assert len(stream._buffer) <= 2 * framing.LINE_LIMIT_BYTES


def test_literals() -> None:
    data = b"a LOGIN {3}\r\na\r\n {0+}\r\n\r\n"
    assert events(data, []) == [Continue(), Complete(b"a LOGIN {3}\r\na\r\n {0+}\r\n")]
    assert parse(b"a LOGIN {3}\r\na\r\n {0+}\r\n").arguments == Login(b"a\r\n", b"")
    assert events(b"a APPEND x {9999999}\r\nb NOOP\r\n", []) == [Refused(b"a", append=True), Complete(b"b NOOP")]
    assert events(b"a LOGIN x {9999999}\r\n", []) == [Refused(b"a")]


@given(any_text.filter(lambda data: b"\0" not in data), any_text.filter(lambda data: b"\0" not in data))
def test_strings_round_trip(user: bytes, password: bytes) -> None:
    command = parse(b"a LOGIN %b %b" % (string(user), string(password)))
    assert command == Command(b"a", "LOGIN", Login(user, password))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_names_round_trip(name: str) -> None:
    assert decode_name(encode_name(name)) == name
    assert encode_name(name).isascii()


@given(st.binary(max_size=40))
def test_names_raise_only_syntax_errors(name: bytes) -> None:
    with contextlib.suppress(ImapSyntaxError):
        decode_name(name)


@pytest.mark.parametrize(
    ("name", "pattern", "matches"),
    [
        ("Bounces/Hard", "*", True),
        ("Bounces/Hard", "%", False),
        ("Bounces/Hard", "%/%", True),
        ("Bounces/Hard", "Bounces/*", True),
        ("Bounces", "Bounces/*", False),
        ("Bounces/Hard", "*a*d", True),
        ("Bounces/Hard", "*a%", True),
        ("INBOX", "inbox", True),
        ("Other", "other", False),
        ("Bounces/Hard", "%*%*%*%*%*%*%*%*%*%*%*%*%*%*x", False),
    ],
)
def test_wildcards(name: str, pattern: str, matches: bool) -> None:
    assert name_matches(name, pattern) is matches


numbers = st.integers(0, 2**32 - 1)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8), st.integers(1, 2**32 - 1))
def test_sets_round_trip_and_resolve(ranges: list[tuple[int, int]], largest: int) -> None:
    written = SequenceSet(tuple(ranges))
    assert Scanner(bytes(written)).sequence_set() == written
    spans = written.resolved(largest)
    assert all(a <= b for a, b in spans)
    assert all(one[1] + 1 < other[0] for one, other in itertools.pairwise(spans))
    for a, b in ranges:
        low, high = sorted((a or largest, b or largest))
        assert any(first <= low and high <= last for first, last in spans)


@given(st.sets(st.integers(1, 300), min_size=1))
def test_uid_sets_are_compact_and_complete(uids: set[int]) -> None:
    spans = Scanner(uid_set(sorted(uids))).sequence_set().ranges
    assert {n for a, b in spans for n in range(a, b + 1)} == uids
    assert len(spans) == sum(1 for uid in uids if uid - 1 not in uids)


def test_fetch() -> None:
    fetch = parse(b"a UID FETCH 2:4,* (FLAGS BODY.PEEK[1.2.HEADER.FIELDS (A {1}\r\nb)]<7.9> RFC822.SIZE)")
    assert fetch.uid
    assert fetch.arguments == Fetch(
        SequenceSet(((2, 4), (0, 0))),
        (
            FetchItem("FLAGS"),
            FetchItem("BODY", Section((1, 2), "HEADER.FIELDS", (b"A", b"b")), peek=True, partial=(7, 9)),
            FetchItem("RFC822.SIZE"),
        ),
    )
    for bad in (b"0 FLAGS", b"1 ()", b"1 BODY[MIME]", b"1 BODY[1.]x", b"1 BODY[HEADER.FIELDS ()]", b"1 BODY[]<0.0>"):
        with pytest.raises(ImapSyntaxError):
            parse(b"a FETCH " + bad)


def test_store_and_mailboxes() -> None:
    assert parse(b"a STORE 1 -FLAGS.SILENT (\\Seen $x)").arguments == Store(
        SequenceSet(((1, 1),)), "-", silent=True, flags=(b"\\Seen", b"$x")
    )
    assert parse(b"a STORE 1 FLAGS \\Seen").arguments == Store(SequenceSet(((1, 1),)), "", False, (b"\\Seen",))
    assert parse(b'a SELECT "inBox"').arguments == Mailbox("INBOX")
    assert parse(b"a EXAMINE R&APw-ck").arguments == Mailbox("Rück")


def test_search() -> None:
    search = parse(b'a SEARCH CHARSET UTF-8 OR NOT SEEN (SINCE 1-Jan-2026 1:3) HEADER x "" KEYWORD $Hard LARGER 5')
    assert search.arguments == Search(
        And(
            (
                Or(
                    Not(Flag(b"\\seen")),
                    And((Day("SINCE", dt.date(2026, 1, 1), sent=False), Numbers(SequenceSet(((1, 3),)), uid=False))),
                ),
                Text("x:", b""),
                Flag(b"$hard"),
                Size(larger=True, size_bytes=5),
            )
        ),
        "UTF-8",
    )
    with pytest.raises(ImapSyntaxError):
        parse(b"a SEARCH " + b"NOT " * 100 + b"ALL")
    with pytest.raises(ImapSyntaxError):
        parse(b"a SEARCH " + b"(" * 5000 + b"ALL" + b")" * 5000)
