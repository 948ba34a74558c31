"""Breaking in over IMAP: before login, as a reader, and through what messages and envelopes hold."""

from __future__ import annotations

import asyncio
import imaplib
import re
import smtplib
import socket
from collections.abc import Iterator

import psutil
import pytest

from store.imap.throttle import LoginGuard
from tests.support.tap import DOMAIN, Tap, wait_for

HOSTILE = (
    b'From: "a\\"b\\\\" (c(d)) <"x\\"y"@[1.2.3.4]>, =?utf-8?q?=0D=0AX:_y?= <a\x00b@c>, g: ;,:;,<<>>\r\n'
    b'Subject: \x80\xff) (BODY[] {3}\r\n * 9 EXISTS "\\\r\n'
    b'Message-ID: <a"b\\c{5}>\r\nIn-Reply-To: {5}\r\n'
    b'Content-Type: multipart/mixed; boundary="b"; x="\\""; "y)"=(z; a*0="q\r\n r"\r\n'
    b'Content-Disposition: attachment; filename="a\x00\x80\\")"\r\n\r\n'
    b'--b\r\nContent-Type: te"xt/pl\\ain; charset="\r\nContent-ID: ")(\r\nContent-Language: {1}\r\n\r\nhi\r\n'
    b"--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: (\r\nSubject: )\r\n\r\n--b--\r\n"
)


@pytest.fixture
def raw(tap: Tap) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", tap.imap_port), timeout=30) as sock:
        assert sock.recv(1000).startswith(b"* OK")
        yield sock


def login(tap: Tap, name: str) -> imaplib.IMAP4:
    client = imaplib.IMAP4("127.0.0.1", tap.imap_port)
    client.login(name, "a good password")
    return client


def until_closed(sock: socket.socket) -> bytes:
    said = b""
    try:
        while data := sock.recv(65536):
            said += data
    except ConnectionError:
        pass
    return said


@pytest.mark.parametrize(
    ("junk", "answer"),
    [
        (b"a LOGIN {999999999999999999}\r\n", b"a BAD"),
        (b"a LOGIN {99999999999+}\r\n", b"* BYE"),
        (b"a SEARCH " + b"(" * 60_000 + b"\r\n", b"a BAD"),
        (b"a SEARCH " + b"OR NOT " * 9_000 + b"\r\n", b"a BAD"),
        (b"a " + b"x" * 3_000_000 + b"\r\n", b"a BAD"),
        (b"\x00\xff\x80 \r\n" * 30, b"BAD"),
        (b"a LOGIN " + b"{1+}\r\nx" * 200_000 + b"\r\n", b"a BAD"),
        (b"a AUTHENTICATE PLAIN ====\r\n", b"a "),
        (b"a AUTHENTICATE PLAIN\r\n" + b"A" * 200_000 + b"\r\n", b"a "),
        (b"a AUTHENTICATE PLAIN AAAA\r\n", b"a NO"),
        (b"a FETCH 1 BODY[]\r\n", b"a BAD"),
        (b"a APPEND INBOX {100000+}\r\n" + b"x" * 100_000 + b"\r\n", b"a BAD"),
        (b"a IDLE\r\nDONE\r\n", b"a BAD"),
        (b"a ID (" + b'"x" "y" ' * 1_500 + b")\r\n", b"a OK"),
        (b"a ID (" + b'"x" "y" ' * 8_000 + b")\r\n", b"a BAD"),
    ],
)
def test_before_login(tap: Tap, raw: socket.socket, junk: bytes, answer: bytes) -> None:
    process = psutil.Process(tap.processes["imap"].pid)
    before = process.memory_info().rss
    raw.sendall(junk + b"z LOGOUT\r\n")
    raw.shutdown(socket.SHUT_WR)
    assert answer in until_closed(raw)
    assert process.memory_info().rss - before < 20_000_000


def test_many_half_sent_commands_stay_in_bounds(tap: Tap) -> None:
    process = psutil.Process(tap.processes["imap"].pid)
    before = process.memory_info().rss
    opened = []
    for _ in range(40):
        sock = socket.create_connection(("127.0.0.1", tap.imap_port), timeout=30)
        opened.append(sock)
        sock.sendall(b"a LOGIN " + (b"{60000+}\r\n" + b"x" * 60_000) * 15)
    grown = process.memory_info().rss - before
    for sock in opened:
        sock.close()
    assert grown < 40 * 2_000_000


def test_a_reader_changes_nothing_for_others(tap: Tap) -> None:
    with smtplib.SMTP("127.0.0.1", tap.smtp_port) as smtp:
        smtp.sendmail("", [f"a@{DOMAIN}"], b"Subject: for readers\r\n\r\nhi\r\n")
    wait_for(lambda: any(row["envelope_from"] == "" for row in tap.exported()), "the message to be filed")
    rita = login(tap, "rita")
    folder = next(name for name in _folders(rita) if _count(rita, name))
    assert rita.select(folder)[0] == "OK"
    everything = [
        ("STORE", "1", "+FLAGS", r"(\Flagged)"),
        ("STORE", "1", "FLAGS.SILENT", r"(\Deleted mine)"),
        ("COPY", "1", "INBOX"),
        ("MOVE", "1", "INBOX"),
        ("EXPUNGE",),
        ("UID", "STORE", "1:*", "+FLAGS", r"(\Deleted $Junk)"),
        ("UID", "COPY", "1:*", "INBOX"),
        ("UID", "MOVE", "1:4294967295", '"&AC4ALg-/&AC4ALg-/etc"'),
        ("UID", "EXPUNGE", "1:*"),
        ("CREATE", '"../../x"'),
        ("DELETE", "INBOX"),
        ("RENAME", "INBOX", "x"),
    ]
    for number, words in enumerate(everything):
        tag = f"t{number}".encode()
        rita.send(tag + b" " + " ".join(words).encode() + b"\r\n")
        while not (line := rita.readline()).startswith(tag):
            pass
        assert line.split()[1] in (b"NO", b"BAD"), words
    rita.send(b"s1 STORE 1 FLAGS ()\r\n")
    while not (line := rita.readline()).startswith(b"s1"):
        pass
    anna = login(tap, "anna")
    anna.select(folder)
    flags = anna.fetch("1", "(FLAGS)")[1][0]
    assert isinstance(flags, bytes)
    assert b"Flagged" not in flags
    assert b"mine" not in flags
    for client in (rita, anna):
        client.close()
        client.logout()
    anna = login(tap, "anna")
    assert _count(anna, folder) >= 1  # a reader's CLOSE expunges nothing
    anna.logout()


def _folders(client: imaplib.IMAP4) -> list[str]:
    return [line.split(b'"/" ')[1].decode() for line in client.list()[1] if isinstance(line, bytes)]


def _count(client: imaplib.IMAP4, folder: str) -> int:
    found = re.search(r"MESSAGES (\d+)", str(client.status(folder, "(MESSAGES)")[1][0]))
    return int(found[1]) if found else 0


def test_messages_cannot_write_responses(tap: Tap) -> None:
    """Whatever header fields and envelope hold, a strict client reads the right number of well-formed responses."""
    with smtplib.SMTP("127.0.0.1", tap.smtp_port) as smtp:
        smtp.ehlo('evil"){3}*')
        smtp.docmd("MAIL", 'FROM:<"a\\"b)(\\\\ {3}"@example.org>')
        assert smtp.docmd("RCPT", f'TO:<"x\\"=?utf-8?q?=0D=0AX-Bouncetap-Kind:_y?="@{DOMAIN}>')[0] == 250
        assert smtp.data(HOSTILE)[0] == 250
    wait_for(lambda: any("X-Bouncetap-Kind" in str(row["envelope_to"]) for row in tap.exported()), "the message")
    row = next(row for row in tap.exported() if "X-Bouncetap-Kind" in str(row["envelope_to"]))
    client = login(tap, "anna")
    client.select(f'"{row["folder"]}"')
    found = client.uid("SEARCH", "ALL")[1][0].split()
    kind, data = client.uid("FETCH", found[-1], "(UID ENVELOPE BODYSTRUCTURE BODY BODY.PEEK[HEADER] FLAGS)")
    assert kind == "OK"
    whole = b"".join(b"".join(piece) if isinstance(piece, tuple) else piece for piece in data if piece)
    assert whole.rstrip().endswith(b")")
    header = data[-2][1] if isinstance(data[-2], tuple) else b""
    head = bytes(header)
    assert head.count(b"\r\nX-Bouncetap-Kind:") == 1
    assert head.index(b"\r\nX-Bouncetap-Id:") < head.index(b"\r\nFrom:")
    assert client.noop()[0] == "OK"  # still in step
    client.logout()


@pytest.mark.parametrize(
    "bomb",
    [
        b"SEARCH 1:4294967295 UID 1:4294967295,1:4294967295",
        b"SEARCH " + b"1," * 20_000 + b"1",
        b"SEARCH CHARSET punycode TEXT {60000+}\r\n" + b"a-" + b"z9" * 29_999,
        b"SEARCH CHARSET " + b"q" * 5_000 + b" ALL",
        b"SEARCH " + b"NOT " * 39 + b"ALL",
        b"SEARCH " + b"OR ALL " * 39 + b"ALL",
        b"SEARCH SUBJECT {60000+}\r\n" + b"(a+)+$" * 10_000,
        b"UID FETCH 4294967295:1 (UID)",
        b"FETCH 1 (" + b" ".join([b"BODY[1.1.1.1.1.1]<4294967295.4294967295>"] * 100) + b")",
        b'LIST "" "' + b"%*" * 20_000 + b'"',
    ],
)
def test_bombs_after_login(tap: Tap, bomb: bytes) -> None:
    client = login(tap, "rita")
    client.select("INBOX")
    client.send(b"bomb " + bomb + b"\r\n")
    while not (line := client.readline()).startswith(b"bomb "):
        assert line
    assert client.noop()[0] == "OK"
    client.logout()


async def test_one_address_guesses_one_at_a_time() -> None:
    """All of an IPv6 /64 is one address, and a queue of guesses never becomes several."""
    running = most = 0

    def verify(_user: str, _password: str) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        running -= 1

    guard = LoginGuard(verify, first_delay_s=0.001, longest_delay_s=0.002)

    async def guess(number: int) -> None:
        for _ in range(3):
            await guard.verify(f"2001:db8::{number:x}", "a", "b")
            await asyncio.sleep(0)

    await asyncio.gather(*(guess(number) for number in range(1, 30)))
    assert most == 1
    assert not guard._turns
    assert not guard._waiting
    assert list(guard._failures) == ["2001:db8::/64"]
    guard.close()
