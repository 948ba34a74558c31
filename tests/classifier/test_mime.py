"""Header blocks, parts and texts of well-formed and broken messages, as the classifier reads them."""

from __future__ import annotations

import base64
import binascii

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.mime import parse
from classifier.mime.encodings import from_transfer, header_text
from classifier.mime.headers import split


def read(block: bytes) -> tuple[list[str], bytes, list[str]]:
    """The names of the fields, what follows them, and the defects of a message."""
    headers, body, defects = split(block, 0, len(block))
    return list(headers.names()), block[body:], defects


def test_clean_header_has_no_defects() -> None:
    assert read(b"A: 1\nB: 2\n 3\n\nbody\n") == (["a", "b"], b"body\n", [])
    assert read(b"A: 1\nB: 2") == (["a", "b"], b"", [])
    assert read(b"A: 1\nB : 2\nC:\n\n") == (["a", "b", "c"], b"", [])


def test_junk_between_fields_is_passed_over_wherever_it_stands() -> None:
    assert read(b"A: 1\njunk\nB: 2\n\nbody") == (["a", "b"], b"body", ["header-junk"])
    assert read(b"A: 1\n>From x\nB: 2\n\nbody") == (["a", "b"], b"body", [])


def test_junk_after_the_last_field_begins_the_body() -> None:
    assert read(b"A: 1\nno colon here\nnor here\n\nmore") == (
        ["a"],
        b"no colon here\nnor here\n\nmore",
        ["header-junk"],
    )
    assert read(b"A: 1\nB: 2\nlast line") == (["a", "b"], b"last line", ["header-junk"])


def test_junk_is_seen_in_a_header_of_many_kilobytes() -> None:
    fields = b"".join(b"X-%d: %s\n" % (i, b"v" * 100) for i in range(200))
    names, body, defects = read(fields + b"junk\n\nbody")
    assert (len(names), body, defects) == (200, b"junk\n\nbody", ["header-junk"])


def test_block_without_a_field_is_all_body() -> None:
    assert read(b"hello you\n\nthere") == ([], b"hello you\n\nthere", ["no-header"])
    assert read(b"From a@b Mon Jan 1\nA: 1\n\nx") == (["a"], b"x", [])


def test_fields_are_counted_no_further_than_the_bound() -> None:
    headers, body, defects = split(b"A: 1\n" * 6000 + b"\nx", 0, 30_002)
    assert (len(headers), body, defects) == (1, 30_001, ["too-many-fields"])


def parts(raw: bytes) -> list[tuple[str, str, str]]:
    """Path, type and text of each part."""
    return [(part.path, part.content_type, part.text) for part in parse(raw).walk()]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"=?iso-8859-1?Q?a_b=20c?= plain =?utf-8?q?=E2=82=AC?=", "a b c plain €"),
        (b"=?utf-8?Q?=C3?= =?utf-8?Q?=A9?= x", "é x"),  # a character cut in two
        (b"=?utf-8?B?w6?=\n =?utf-8?B?k=?=", "é"),  # a base64 group cut in two
        (b"=?utf-8?B?w6k=?= =?utf-8?B?w6k=?=", "éé"),
        (b"=?utf-8?Q?a?==?iso-8859-1?Q?=E9?=", "aé"),
        (b"=?ISO-2022-JP?B?GyRCJCIbKEI=?=", "あ"),
        (b'"=?utf-8?Q?J=C3=BCrgen?=" <a@b>', '"Jürgen" <a@b>'),
        (b"=?utf-8*de?Q?=C3=A4?=", "ä"),  # RFC 2231 section 5
        (b"=?utf-8?Q?with space?=", "with space"),
        (b"=?utf-8?B?!!!?=", ""),
        (b"raw \xe9 and folded\n here", "raw é and folded here"),
    ],
)
def test_encoded_words(raw: bytes, text: str) -> None:
    assert header_text(raw) == text


def test_parameters_in_pieces_and_charsets() -> None:
    message = parse(
        b"Content-Type: application/octet-stream; name*=utf-8''%e2%82%ac%20x\n"
        b"Content-Disposition: attachment; filename*0*=iso-8859-1'de'%e4; filename*1=\"b.txt\"\n\nx"
    )
    assert message.root.params["name"] == "€ x"
    assert message.root.filename == "äb.txt"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Content-Transfer-Encoding: base64 (as it says)", base64.encodebytes(b"no such user")),
        (b"Content-Transfer-Encoding: BASE64", base64.encodebytes(b"no such  user") + b"--\n(a mailer's footer)"),
        (b"Content-Transfer-Encoding: quoted-printable", b"no=20such =\nuser"),
        (b"Content-Transfer-Encoding: x-uuencode", b"begin 644 a\n" + binascii.b2a_uu(b"no such user") + b"`\nend\n"),
        (b"Content-Transfer-Encoding: no-such-thing", b"no such user"),
        (b"Content-Type: text/plain; charset=utf-16", "no such user".encode("utf-16")),
        (b"Content-Type: text/plain; charset=no-such-thing", b"no such user"),
        (b'Content-Type: text/plain; charset="utf-8', b"no such user"),
        (b"Content-Type: text", b"no such user"),
        (b"Content-Type: text/html", b"<style>a{}</style><p>no such<br>\n<!-- hidden > --><b>user</b>"),
    ],
)
def test_texts_however_they_are_wrapped(head: bytes, body: bytes) -> None:
    text = parse(head + b"\n\n" + body).text
    assert " ".join(text.split()) == "no such user"


def test_a_uuencoded_file_within_a_text_is_no_text() -> None:
    raw = b"\nbefore\nbegin 644 a.bin\n" + binascii.b2a_uu(b"a@b.example") + b"`\nend\nafter\n"
    assert parse(raw).text.split() == ["before", "after"]


def test_what_html_cannot_say_is_no_character() -> None:
    body = b"<p>550 user unknown &#" + b"9" * 4301 + b"; &#65;</p>"
    assert "550 user unknown \ufffd A" in parse(b"Content-Type: text/html\n\n" + body).text


def test_utf_7_gives_no_lone_surrogates() -> None:
    text = parse(b"Content-Type: text/plain; charset=utf-7\n\nunsubscribe +3AA-\n").text
    assert text.encode("utf-8").startswith(b"unsubscribe ")


def test_a_byte_order_mark_does_not_hide_the_header() -> None:
    message = parse(b"\xef\xbb\xbfFrom: a@b.example\n\nbody")
    assert message.from_address == "a@b.example"
    assert message.text == "body"


def test_an_embedded_message_in_base64_is_read() -> None:
    inner = b"From: x@y.example\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\n\ntwo\n--b--\n"
    raw = b"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n" + base64.encodebytes(inner)
    assert [(path, text.strip()) for path, kind, text in parts(raw) if kind == "text/plain"] == [
        ("1.1", "one"),
        ("1.2", "two"),
    ]


@pytest.mark.parametrize(
    "head",
    [
        b'Content-Type: multipart/mixed; boundary="a b "',
        b"Content-Type: multipart/mixed; boundary*0=a; boundary*1=\" b\"",
        b"Content-Type: multipart/mixed",  # told by the first line that looks like a delimiter
    ],
)  # fmt: skip
def test_boundaries_however_they_are_told(head: bytes) -> None:
    raw = head + b"\n\npreamble\n--a b\nContent-Type: text/plain\n\none\n--a b  \n\ntwo\n--a b--\nepilogue"
    assert [(path, text) for path, kind, text in parts(raw)[1:]] == [("1", "one"), ("2", "two")]


@given(st.binary(max_size=400))
def test_uuencode_and_base64_never_raise(data: bytes) -> None:
    for encoding in ("x-uuencode", "base64", "quoted-printable"):
        assert len(from_transfer(b"begin 644 a\n" + data, encoding, 50)) <= 50
