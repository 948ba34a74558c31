"""ENVELOPE, BODYSTRUCTURE and sections of well-formed, odd and hostile messages."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.imap import structure
from store.imap.addresses import GROUP_END, Address, parse_addresses
from store.imap.mime import DEPTH_LIMIT, PARTS_LIMIT, Part, parse
from store.imap.scanner import Scanner
from store.imap.structure import Section, describe, section

NESTED = (
    b"From: A <a@x.example>\r\nSubject: outer\r\nContent-Type: multipart/report; boundary=o\r\n\r\npreamble\r\n"
    b"--o\r\n\r\ntext\r\n"
    b"--o\r\nContent-Type: message/rfc822\r\n\r\n"
    b'Subject: inner\r\nContent-Type: multipart/alternative; boundary="i i"\r\n\r\n'
    b"--i i\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>\r\n--i i\r\n\r\nplain\r\n--i i--\r\n"
    b"\r\n--o--\r\nepilogue\r\n"
)


def value(text: bytes) -> object:
    """Read a parenthesized IMAP value; fails unless it is well-formed to its last byte."""
    scanner = Scanner(text)
    found = _value(scanner)
    scanner.end()
    return found


def _value(s: Scanner) -> object:
    if s.accept(b"("):
        items = []
        while not s.accept(b")"):
            items.append(_value(s))
            s.accept(b" ")
        return items
    if s.peek(b"NIL") or s.peek(b'"') or s.peek(b"{"):
        return s.nstring()
    return s.number()


def check(raw: bytes) -> None:
    """What must hold for any message."""
    described = describe(raw)
    envelope = value(described.envelope)
    assert isinstance(envelope, list)
    assert len(envelope) == 10
    assert isinstance(value(described.bodystructure), list)
    assert isinstance(value(structure.body(raw, parse(raw))), list)
    header, body = section(raw, Section((), "HEADER")), section(raw, Section((), "TEXT"))
    assert header is not None
    assert body is not None
    assert header + body == raw
    assert described.header_size == len(header)
    _check_parts(raw, parse(raw), ())


def _check_parts(raw: bytes, part: Part, path: tuple[int, ...]) -> None:
    """Each part can be had under its number, and lies within its parent."""
    holder = part
    if path:
        assert section(raw, Section(path)) == raw[part.body : part.end]
        holder = part.parts[0] if part.is_message else part
    for number, child in enumerate(holder.parts if holder.is_multipart else (), 1):
        assert part.start <= child.start <= child.body <= child.end <= part.end
        _check_parts(raw, child, (*path, number))


def test_sections_of_nested_messages() -> None:
    def at(*path: int, text: str = "") -> bytes | None:
        return section(NESTED, Section(path, text))

    check(NESTED)
    assert at(1) == b"text"
    assert at(1, text="MIME") == b"\r\n"
    assert at(2, text="MIME") == b"Content-Type: message/rfc822\r\n\r\n"
    assert at(2, text="HEADER") == b'Subject: inner\r\nContent-Type: multipart/alternative; boundary="i i"\r\n\r\n'
    assert at(2, 1) == b"<p>"
    assert at(2, 2) == b"plain"
    assert at(2, 2, 1) is None
    assert at(3) is None
    assert at(1, text="HEADER") is None
    assert section(NESTED, Section((2,), "HEADER.FIELDS", (b"SUBJECT",))) == b"Subject: inner\r\n\r\n"
    assert section(NESTED, Section((), "HEADER.FIELDS.NOT", (b"content-type", b"from"))) == b"Subject: outer\r\n\r\n"


def test_a_single_part_is_part_one() -> None:
    raw = b"Subject: x\n\nbody\n"
    check(raw)
    assert section(raw, Section((1,))) == b"body\n"
    assert section(raw, Section((1, 1))) is None
    assert section(raw, Section((2,))) is None


def test_bodystructure() -> None:
    inner = [[b"text", b"html", [b"charset", b"utf-8"], None, None, b"7bit", 3, 1]]
    inner.append([b"text", b"plain", [b"charset", b"us-ascii"], None, None, b"7bit", 5, 1])
    body = value(structure.body(NESTED, parse(NESTED)))
    assert isinstance(body, list)
    assert body[0] == [b"text", b"plain", [b"charset", b"us-ascii"], None, None, b"7bit", 4, 1]
    assert body[1][:3] == [b"message", b"rfc822", None]
    assert body[1][8] == [*inner, b"alternative"]
    assert body[2] == b"report"


@pytest.mark.parametrize(
    ("field", "found"),
    [
        (b"a@b", [Address(None, b"a", b"b")]),
        (b'"A, \\"B\\"" <a.b@c>', [Address(b'A, "B"', b"a.b", b"c")]),
        (b"a@b (The (nested) name)", [Address(b"The (nested) name", b"a", b"b")]),
        (b"A B <@r1,@r2:a@b>, c@d", [Address(b"A B", b"a", b"b", b"@r1,@r2"), Address(None, b"c", b"d")]),
        (b"g: a@b, c@d;", [Address(None, b"g", None), Address(None, b"a", b"b"), Address(None, b"c", b"d"), GROUP_END]),
        (b"undisclosed-recipients:;", [Address(None, b"undisclosed-recipients", None), GROUP_END]),
        (b'"x@y"@[192.0.2.1]', [Address(None, b"x@y", b"[192.0.2.1]")]),
        (b"MAILER-DAEMON", [Address(None, b"MAILER-DAEMON", b"")]),
        (b"(nobody)", []),
        (b"MAILER-DAEMON <>", [Address(b"MAILER-DAEMON", b"", b"")]),
        (b"<>", []),
        (rb"Pete(A nice \) chap) <pete(his)@c>", [Address(b"Pete", b"pete", b"c")]),
        (b"a@b; c@d", [Address(None, b"a", b"b"), Address(None, b"c", b"d")]),
        (b"open: a@b", [Address(None, b"open", None), Address(None, b"a", b"b"), GROUP_END]),
    ],
)
def test_addresses(field: bytes, found: list[Address]) -> None:
    assert parse_addresses(field) == found


ODD = {
    "empty": b"",
    "no header": b"\r\nbody",
    "only a header": b"Subject: x",
    "no boundary parameter": b"Content-Type: multipart/mixed\r\n\r\n--x\r\n\r\ny\r\n--x--",
    "boundary never used": b"Content-Type: multipart/mixed; boundary=x\r\n\r\nbody",
    "never closed": b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nbody",
    "equal nested boundaries": b"Content-Type: multipart/mixed; boundary=x\r\n\r\n"
    + b"--x\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n" * 50
    + b"--x--",
    "bare CR": b"Subject: x\rContent-Type: text/plain\r\rbody\r",
    "NUL": b"Subject: a\0b\r\nFrom: \0 <\0@\0>\r\n\r\n\0",
    "type without slash": b"Content-Type: text\r\n\r\nx",
    "type of odd bytes": b"Content-Type: \xff/\xfe; \xfd=\xfc\r\n\r\nx",
    "open quote": b'Content-Type: multipart/mixed; boundary="x\r\n\r\n--x\r\n\r\n\r\n--x--',
    "adjacent delimiters": b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n--x\r\n--x--\r\n",
    "digest": b"Content-Type: multipart/digest; boundary=x\r\n\r\n--x\r\n\r\nSubject: in\r\n\r\nbody\r\n--x--\r\n",
}


@pytest.mark.parametrize("raw", ODD.values(), ids=ODD)
def test_odd_messages(raw: bytes) -> None:
    check(raw)


@given(st.binary(max_size=300))
def test_any_bytes(raw: bytes) -> None:
    check(raw)


lines = st.sampled_from(
    [
        *(b"--x", b"--x--", b"--xy", b"--y", b"--y--", b"", b"Content-Type: multipart/mixed; boundary=x", b"text"),
        *(
            b"\0",
            b"Content-Type: multipart/digest; boundary=y",
            b"Content-Type: message/rfc822",
            b" folded",
            b"From: <a@b",
            b"\r",
        ),
    ]
)


@given(st.lists(lines, max_size=30), st.sampled_from([b"\r\n", b"\n"]))
def test_any_lines(found: list[bytes], end: bytes) -> None:
    check(end.join(found))


def _deep(levels: int) -> bytes:
    return b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(levels))


HOSTILE = {
    "200 deep": _deep(200),
    "500 messages deep": b"Content-Type: message/rfc822\r\n\r\n" * 500,
    "100,000 parts": b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"--x\r\n\r\n" * 100_000,
    "1 MB of headers": b"X-A: b\r\n" * 125_000 + b"\r\n",
    "100,000 recipients": b"To: " + b", ".join(b"user%d@example.org" % n for n in range(100_000)) + b"\r\n\r\n",
    "10 MB of near-boundaries": b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"\n--xy" * 2_000_000,
    "one line of 10 MB": b"Subject: " + b"x" * 10_000_000,
    "open brackets": b"From: " + b"(" * 200_000 + b"<" * 200_000 + b'"' * 200_000,
    "parameters": b"Content-Type: text/plain" + b"; a=" * 100_000 + b'; a="' * 50_000,
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE)
def test_hostile_messages_are_bounded(raw: bytes) -> None:
    began = time.process_time()
    described = describe(raw)
    used_s = time.process_time() - began
    assert used_s < 5, "an order of magnitude over what it takes"
    assert len(described.envelope) < 400_000
    value(described.envelope)

    def depth(part: Part) -> int:
        return 1 + max(map(depth, part.parts), default=0)

    def count(part: Part) -> int:
        return 1 + sum(map(count, part.parts))

    tree = parse(raw)
    assert depth(tree) <= DEPTH_LIMIT + 2
    assert count(tree) <= PARTS_LIMIT + 2


@pytest.mark.corpus
def test_all_of_the_corpus(corpus: Path) -> None:
    for path in sorted(corpus.rglob("*.eml"))[:600]:
        check(path.read_bytes())
