"""Input that no honest client sends: each gets a clear answer or a BYE, and other sessions go on."""

from __future__ import annotations

import asyncio
import time

import pytest
import sqlalchemy as sa

from store.expiry import Clock, Expiry
from store.imap.names import name_matches
from store.imap.server import ImapServer
from store.imap.text import body_text
from store.schema import corrections
from tests.imap.conftest import Connect
from tests.support.imap import Client, Filled, serve
from tests.support.store import bounce

HARD = b'SELECT "Bounces/Hard"'


@pytest.mark.parametrize(
    "sent",
    [
        b"x" * 300_000 + b"\r\n",
        b"a LOGIN " + b"x" * 300_000 + b"\r\n",
        b"a LOGIN rita {70000}\r\n",
        b"a LOGIN rita {17000}\r\n",
        b"a LOGIN rita {70000+}\r\n" + b"x" * 70_000 + b"\r\n",
        b"a LOGIN rita {99999999999999999999}\r\n",
        b"a APPEND INBOX {500000+}\r\n" + b"x" * 500_000 + b"\r\n",
        b"\0\0\0 \0\r\n",
        b"a LOGIN \0 \0\r\n",
        b"a LOGIN {3+}\r\na\0b {3+}\r\nc\0d\r\n",
        b"\xff\xfe\xfd \xff\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"a SEARCH " + b"(" * 5000 + b"\r\n",
        b"a AUTHENTICATE PLAIN " + b"=" * 1000 + b"\r\n",
    ],
    ids=range(14),
)
async def test_nonsense_before_login_is_refused(connect: Connect, sent: bytes) -> None:
    c = await connect()
    c.send(sent)
    assert (await c.response()).split(b" ", 1)[1].startswith((b"BAD", b"NO"))
    c.send(b"after NOOP\r\n")
    assert (await c.until(b"after "))[-1] == b"after OK done"


async def test_who_has_logged_in_may_say_more(connect: Connect) -> None:
    c = await connect("rita")
    await c.ok(HARD)
    assert await c.ok(b"SEARCH SUBJECT {60000+}\r\n" + b"x" * 60_000) == [b"* SEARCH"]


async def test_a_literal_that_cannot_be_skipped_ends_the_connection(connect: Connect) -> None:
    c = await connect("rita")
    c.send(b"a SELECT {1000000001+}\r\n")
    assert (await c.response()).startswith(b"* BYE")


async def test_only_nonsense_ends_the_connection(connect: Connect) -> None:
    c = await connect()
    c.send(b"nonsense\r\n" * 1000)
    assert (await c.until(b"* BYE"))[-1] == b"* BYE too many bad commands"


async def test_an_endless_line_takes_no_memory(connect: Connect, server: ImapServer) -> None:
    c, friend = await connect(), await connect("rita")
    for _ in range(100):
        c.send(b"z" * 100_000)
        await c.writer.drain()
    await friend.ok(HARD)
    assert max(len(one._stream._buffer) for one in server._connections) < 1_000_000
    c.send(b"\r\nb NOOP\r\n")
    assert (await c.until(b"b "))[-1] == b"b OK done"


async def test_vanished_and_half_closed_clients_leave_nothing(connect: Connect, server: ImapServer) -> None:
    for sent in (b"a IDLE\r\n", b"a FETCH 1:* BODY.PEEK[]\r\n", b"a LOGIN {5}\r\n", b"a SEARCH BODY x\r\n", b"half"):
        gone = await connect("rita")
        await gone.ok(HARD)
        gone.send(sent)
        await gone.writer.drain()
        if sent == b"half":
            gone.writer.write_eof()
        else:
            gone.writer.transport.abort()
    friend = await connect("rita")
    async with asyncio.timeout(30):
        while server.status()["connections"] > 1:
            await friend.ok(b"NOOP")


async def test_silence_in_idle_is_no_error(filled: Filled, capsys: pytest.CaptureFixture[str]) -> None:
    server = await serve(filled.settings, idle_timeout_s=0.3)
    c = await Client.connect(server, "rita")
    c.send(b"a IDLE\r\n")
    assert [line[:5] for line in await c.until(b"* BYE")] == [b"+ idl", b"* BYE"]
    await c.close()
    await server.stop()
    assert "command_failed" not in capsys.readouterr().out


async def test_patterns_names_and_sets_of_any_size(connect: Connect, server: ImapServer) -> None:
    c = await connect("rita")
    for pattern in (b"*" * 60_000, b"%" * 60_000, b"*%" * 30_000):
        await c.ok(b'LIST "" "%b"' % pattern)
    assert await c.ok(b'LIST "" "%b"' % (b"*a" * 30_000)) == []
    for number in range(50):
        assert (await c.ask(b"SELECT none%d" % number))[-1].startswith(b" NO [NONEXISTENT]")
        assert (await c.ask(b"STATUS none%d (MESSAGES)" % number))[-1].startswith(b" NO [NONEXISTENT]")
    assert (await c.ask(b"SELECT {3+}\r\na\0b"))[-1].startswith(b" NO [NONEXISTENT]")
    assert not [name for name in server._backend._locks if name.startswith("none")]
    await c.ok(HARD)
    assert len(await c.ok(b"UID FETCH %b (FLAGS)" % b",".join([b"1:4294967295"] * 4000))) == 5
    assert (await c.ask(b"FETCH 1 (%b)" % b" ".join([b"BODY[]<%d.1>" % n for n in range(200)])))[-1].startswith(b" BAD")
    assert len(await c.ok(b"FETCH 1 (%b)" % b" ".join([b"BODY.PEEK[1]"] * 90))) == 1


def test_wildcards_still_match() -> None:
    assert name_matches("Bounces/Hard", "%/%%")
    assert not name_matches("Bounces/Hard", "%%%")
    assert name_matches("Bounces/Hard", "B%*%d")


def test_charsets_of_hostile_mail_cost_little() -> None:
    began = time.process_time()
    for charset in (b"punycode", b"idna", b"unicode_escape", b"hex", b"\xff"):
        body_text(b"Content-Type: text/plain; charset=%b\r\n\r\n" % charset + b"abcd" * 500_000)
    assert time.process_time() - began < 10, "an order of magnitude over what it takes"


async def test_a_large_message_in_many_parts(connect: Connect, filled: Filled) -> None:
    part = b"--b\r\nContent-Type: text/plain\r\n\r\n" + b"x" * 300_000 + b"\r\n"
    (filed,) = await asyncio.to_thread(
        filled.file, b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + part * 3 + b"--b--\r\n"
    )
    c = await connect("rita")
    await c.ok(b"SELECT " + filed.folder.encode())
    (told,) = await c.ok(b"FETCH 1 (UID BODY[1] BODY.PEEK[2]<299990.100> BODY[9] BODY RFC822.SIZE)")
    assert told.count(b"x" * 300_000) == 1
    assert b"BODY[2]<299990> {10}\r\nxxxxxxxxxx BODY[9] NIL BODY ((" in told
    assert told.endswith(b" FLAGS (\\Seen))") or b"\\Seen" in told[-100:]


async def test_a_move_is_a_correction(connect: Connect, filled: Filled) -> None:
    anna = await connect("anna")
    await anna.ok(HARD)
    await anna.ok(b"UID MOVE 2 Replies")
    await anna.ok(b"UID COPY 3 Other")
    with filled.quarantine.index.read() as connection:
        c = corrections.c
        rows = connection.execute(sa.select(c.account, c.action, c.from_folder, c.to_folder)).all()
    assert [tuple(row) for row in rows] == [
        ("anna", "move", "Bounces/Hard", "Replies"),
        ("anna", "copy", "Bounces/Hard", "Other"),
    ]


async def test_unselect_and_close(connect: Connect) -> None:
    anna = await connect("anna")
    await anna.ok(HARD)
    await anna.ok(b"STORE 1 +FLAGS.SILENT (\\Deleted)")
    await anna.ok(b"UNSELECT")
    assert (await anna.ask(b"FETCH 1 FLAGS"))[-1].startswith(b" BAD")
    assert await anna.ok(b"STATUS Bounces/Hard (MESSAGES)") == [b"* STATUS Bounces/Hard (MESSAGES 5)"]
    await anna.ok(HARD)
    assert await anna.ok(b"CLOSE") == []
    assert await anna.ok(b"STATUS Bounces/Hard (MESSAGES)") == [b"* STATUS Bounces/Hard (MESSAGES 4)"]


async def test_status_of_a_folder_that_nobody_opened(connect: Connect, filled: Filled, server: ImapServer) -> None:
    c = await connect("rita")
    ask = b"STATUS Bounces/Hard (MESSAGES RECENT UIDNEXT UNSEEN)"
    expected = [b"* STATUS Bounces/Hard (MESSAGES 5 RECENT 0 UIDNEXT 6 UNSEEN 5)"]
    assert await c.ok(ask) == expected
    assert server.status()["folders_in_memory"] == {}
    await c.ok(b"EXAMINE Bounces/Hard")
    assert await c.ok(ask) == expected
    await c.ok(b"UNSELECT")
    await asyncio.to_thread(filled.file, bounce(b"late@example.org"))
    assert await c.ok(ask) == [b"* STATUS Bounces/Hard (MESSAGES 6 RECENT 1 UIDNEXT 7 UNSEEN 6)"]


async def test_expiry_under_a_session(connect: Connect, filled: Filled) -> None:
    """What a client counts on stays until it may be told; what it asks for meanwhile is answered as gone."""
    anna = await connect("anna")
    await anna.ok(HARD)
    await anna.ok(b"STORE 3 +FLAGS (\\Flagged)")
    later = Clock(lambda: time.time() + 400 * 86_400)
    expiry = Expiry(filled.quarantine, filled.filer, later)
    await asyncio.to_thread(lambda: list(expiry.steps(force=True)))
    *told, done = await anna.ask(b"FETCH 1:5 (BODY.PEEK[HEADER.FIELDS (X-Bouncetap-Id)])")
    assert [line.split()[1] for line in told] == [b"3"], "no EXPUNGE, and old numbers"
    assert done.startswith(b" OK [EXPUNGEISSUED]")
    assert await anna.ok(b"NOOP") == [b"* %d EXPUNGE" % number for number in (5, 4, 2, 1)]
    (told_now,) = await anna.ok(b"FETCH 1:* (UID)")
    assert told_now == b"* 1 FETCH (UID 3)"
