"""Whole dialogues over real sockets against a real quarantine: what each role may do, and what others hear of it."""

from __future__ import annotations

import asyncio
import base64
import re
from pathlib import Path

import pytest

from store import segments
from store.imap.recent import RecentTexts
from store.imap.roles import FlagChange
from store.imap.server import ImapServer
from store.mailboxes import Mailboxes
from tests.imap.conftest import Connect
from tests.support.imap import PASSWORD, Client, Filled, serve
from tests.support.store import bounce

HARD = b'SELECT "Bounces/Hard"'


async def test_select_tells_what_is_there(connect: Connect) -> None:
    c = await connect("anna")
    told = await c.ask(HARD)
    assert told[-1] == b" OK [READ-WRITE] selected"
    text = b"\n".join(told)
    assert b"* 5 EXISTS" in text
    assert b"[UIDNEXT 6]" in text
    assert b"[UNSEEN 1]" in text
    assert b"[PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\*)]" in text
    assert re.search(rb"\* FLAGS \(.*\$bad_mailbox.*\)", text)
    rita = await connect("rita")
    assert any(b"[PERMANENTFLAGS (\\Seen)]" in line for line in await rita.ok(HARD))


async def test_list_status_and_names(connect: Connect) -> None:
    c = await connect("rita")
    names = await c.ok(b'LIST "" *')
    assert b'* LIST (\\HasNoChildren) "/" INBOX' in names
    assert b'* LIST (\\Noselect \\HasChildren) "/" Bounces' in names
    assert b'* LIST (\\HasNoChildren) "/" Bounces/Hard' in names
    assert len(await c.ok(b'LSUB "" *')) == len(names)
    top = await c.ok(b'LIST "" %')
    assert not any(b"Bounces/" in line for line in top)
    assert await c.ok(b'LIST "" ""') == [b'* LIST (\\Noselect) "/" ""']
    assert await c.ok(b'LIST "" inbox') == [b'* LIST (\\HasNoChildren) "/" INBOX']
    status = await c.ok(b"STATUS Bounces/Hard (MESSAGES UNSEEN UIDNEXT)")
    assert status == [b"* STATUS Bounces/Hard (MESSAGES 5 UNSEEN 5 UIDNEXT 6)"]
    assert (await c.ask(b"STATUS Nowhere (MESSAGES)"))[-1].startswith(b" NO [NONEXISTENT]")
    assert await c.ok(b"NAMESPACE") == [b'* NAMESPACE (("" "/")) NIL NIL']
    await c.ok(b"SUBSCRIBE x")


async def test_body_is_annotation_and_exact_original(connect: Connect, filled: Filled) -> None:
    original = b"no header\x00\xff\r\n..stuffed\r\n\nbare\r.\r\n" + b"x" * 70_000 + b"\r\n"
    (filed,) = filled.file(original)
    c = await connect("rita")
    await c.ok(b"EXAMINE " + filed.folder.encode())
    (told,) = await c.ok(b"FETCH 1 (RFC822.SIZE BODY.PEEK[] RFC822.HEADER)")
    size = int(re.search(rb"RFC822.SIZE (\d+)", told)[1])  # type: ignore[index]
    literal, rest = _literal(told, b"BODY[] ")
    assert len(literal) == size
    expected = original.replace(b"\r\n..", b"\r\n.").replace(b"\0", b"\x80")
    assert literal.endswith(b"X-Bouncetap-Id: " + filed.id.encode() + b"\r\n\r\n" + expected)
    header, _ = _literal(rest, b"RFC822.HEADER ")
    assert literal == header + expected
    for offset, count in ((0, 10), (5, 70_000), (size - 3, 100), (size, 5), (size + 7, 5)):
        (told,) = await c.ok(b"FETCH 1 BODY.PEEK[]<%d.%d>" % (offset, count))
        part, _ = _literal(told, b"BODY[]<%d> " % offset)
        assert part == literal[offset : offset + count]


def _literal(told: bytes, label: bytes) -> tuple[bytes, bytes]:
    at = told.index(label) + len(label)
    found = re.compile(rb"\{(\d+)\}\r\n").match(told, at)
    assert found is not None, told[at : at + 40]
    end = found.end() + int(found[1])
    return told[found.end() : end], told[end:]


async def test_reading_marks_as_seen_unless_peeking(connect: Connect) -> None:
    c, other = await connect("rita"), await connect("anna")
    await c.ok(HARD)
    await other.ok(HARD)
    (told,) = await c.ok(b"FETCH 1 BODY.PEEK[HEADER.FIELDS (Subject)]")
    assert b"FLAGS" not in told
    assert b"Subject: Undelivered mail\r\n\r\n" in told
    (told,) = await c.ok(b"FETCH 1 BODY[TEXT]")
    assert b"\\Seen" in told
    (told,) = await c.ok(b"UID FETCH 1 FLAGS")
    assert b"UID 1 " in told
    assert b"\\Seen" in told
    (told,) = await other.ok(b"FETCH 1 FLAGS")
    assert b"\\Seen" not in told, "each account has its own"
    await c.ok(b'EXAMINE "Bounces/Hard"')
    await c.ok(b"FETCH 2 BODY[]")
    (told,) = await c.ok(b"FETCH 2 FLAGS")
    assert b"\\Seen" not in told, "EXAMINE changes nothing"


async def test_roles(connect: Connect) -> None:
    rita, anna, adam = await connect("rita"), await connect("anna"), await connect("adam")
    for c in (rita, anna, adam):
        await c.ok(HARD)
    assert (await rita.ask(b"STORE 1 +FLAGS (\\Deleted)"))[-1].startswith(b" NO [NOPERM]")
    assert (await rita.ask(b"STORE 1 +FLAGS ($mine)"))[-1].startswith(b" NO [NOPERM]")
    assert (await rita.ask(b"EXPUNGE"))[-1].startswith(b" NO [NOPERM]")
    assert (await rita.ask(b"COPY 1 Other"))[-1].startswith(b" NO [NOPERM]")
    assert b"* 1 FETCH (FLAGS ($Hard $bad_mailbox \\Seen))" in _sorted(await rita.ok(b"STORE 1 +FLAGS (\\Seen)"))
    await anna.ok(b"STORE 1:2 +FLAGS (\\Deleted)")
    await anna.ok(b"STORE 1 +FLAGS (\\Flagged $look)")
    *told, done = await anna.ask(b"EXPUNGE")
    assert done == b" OK 1 kept: flagged messages are held"
    assert told == [b"* 2 EXPUNGE"]
    told = await adam.ok(b"NOOP")
    assert b"* 2 EXPUNGE" in told
    assert any(b"\\Flagged" in line and b"$look" in line and b"\\Deleted" not in line for line in told)
    await adam.ok(b"STORE 1 +FLAGS.SILENT (\\Deleted)")
    assert await adam.ok(b"EXPUNGE") == [b"* 1 EXPUNGE"]
    assert b"* 1 EXPUNGE" in await rita.ok(b"NOOP")


def _sorted(lines: list[bytes]) -> list[bytes]:
    """Flags in order of their names."""
    return [
        re.sub(rb"FLAGS \(([^)]*)\)", lambda m: b"FLAGS (%b)" % b" ".join(sorted(m[1].split())), line) for line in lines
    ]


async def test_expunge_is_never_told_during_fetch_store_and_search(connect: Connect) -> None:
    anna, adam = await connect("anna"), await connect("adam")
    await anna.ok(HARD)
    await adam.ok(HARD)
    await anna.ok(b"STORE 2 +FLAGS (\\Deleted)")
    await anna.ok(b"EXPUNGE")
    told = await adam.ok(b"FETCH 1:5 (UID)")
    assert [line for line in told if b"EXPUNGE" in line] == []
    assert b"* 3 FETCH (UID 3)" in told, "the old numbers still hold"
    for command in (b"SEARCH ALL", b"STORE 3 +FLAGS (\\Seen)", b"SEARCH UID 3"):
        assert [line for line in await adam.ok(command) if b"EXPUNGE" in line] == []
    assert await adam.ok(b"SEARCH UID 3") == [b"* SEARCH 3"]
    told = await adam.ok(b"UID FETCH 3 (FLAGS)")
    assert told[-1] == b"* 2 EXPUNGE"
    assert await adam.ok(b"SEARCH UID 3") == [b"* SEARCH 2"]


async def test_idle_tells_of_mail_flags_and_expunges(connect: Connect, filled: Filled) -> None:
    watcher, anna = await connect("adam"), await connect("anna")
    await watcher.ok(HARD)
    await anna.ok(HARD)
    watcher.send(b"i IDLE\r\n")
    assert (await watcher.response()).startswith(b"+ ")
    await asyncio.to_thread(filled.file, bounce(b"new@example.org"))
    assert await watcher.response() == b"* 6 EXISTS"
    assert await watcher.response() == b"* 1 RECENT"
    await anna.ok(b"STORE 1 +FLAGS (\\Flagged)")
    assert (await watcher.response()).startswith(b"* 1 FETCH (FLAGS (\\Flagged")
    await anna.ok(b"STORE 2 +FLAGS (\\Deleted)")
    await anna.ok(b"EXPUNGE")
    assert await watcher.response() == b"* 2 EXPUNGE"
    watcher.send(b"DONE\r\n")
    assert (await watcher.response()).startswith(b"i OK")


async def test_copy_move_and_uidplus(connect: Connect) -> None:
    anna = await connect("anna")
    await anna.ok(HARD)
    await anna.ok(b"STORE 1 +FLAGS (\\Seen \\Flagged)")
    *_, done = await anna.ask(b"COPY 1,3 Other")
    assert re.match(rb" OK \[COPYUID \d+ 1,3 1:2\]", done)
    told = await anna.ok(b"UID MOVE 2:3 Replies")
    assert re.match(rb"\* OK \[COPYUID \d+ 2:3 1:2\]", told[0])
    assert told[1:] == [b"* 3 EXPUNGE", b"* 2 EXPUNGE"]
    assert (await anna.ask(b"COPY 1 Nowhere"))[-1].startswith(b" NO [NONEXISTENT]")
    assert (await anna.ask(b"COPY 1 INBOX"))[-1].startswith(b" NO [CANNOT]")
    await anna.ok(b"SELECT Other")
    told = await anna.ok(b"FETCH 1:* (FLAGS)")
    assert b"\\Flagged" in told[0]
    assert b"\\Seen" in told[0]
    assert len(told) == 2
    await anna.ok(b"STORE 1:2 +FLAGS.SILENT (\\Deleted)")
    assert await anna.ok(b"UID EXPUNGE 2") == [b"* 2 EXPUNGE"]
    await anna.ok(b"CLOSE")
    assert await anna.ok(b"STATUS Other (MESSAGES)") == [b"* STATUS Other (MESSAGES 1)"], "flagged: held"


@pytest.mark.parametrize(
    ("criteria", "found"),
    [
        (b"ALL", b"1 2 3 4 5"),
        (b"2:3", b"2 3"),
        (b"UID 4:*", b"4 5"),
        (b"UNSEEN KEYWORD $hard", b"1 2 3 4 5"),
        (b"KEYWORD $Soft", b""),
        (b"SUBJECT undelivered", b"1 2 3 4 5"),
        (b"FROM daemon@mx.EXAMPLE", b"1 2 3 4 5"),
        (b"TO bounces.example NOT TO nobody", b"1 2 3 4 5"),
        (b"BODY user3@", b"3"),
        (b"OR BODY user3@ TEXT user4@", b"3 4"),
        (b"HEADER X-Bouncetap-Recipient user2", b"2"),
        (b"HEADER X-Bouncetap-Id {0+}\r\n", b"1 2 3 4 5"),
        (b"SINCE 1-Jan-2020 BEFORE 1-Jan-2100", b"1 2 3 4 5"),
        (b"ON 1-Jan-2020", b""),
        (b"SENTSINCE 1-Jan-1980", b""),
        (b"LARGER 100 SMALLER 100000", b"1 2 3 4 5"),
        (b"NOT (1:2 ALL)", b"3 4 5"),
        (b"CHARSET utf-8 TEXT {5+}\r\nuser5", b"5"),
        (b"NEW", b""),
        (b"OLD", b"1 2 3 4 5"),
    ],
)
async def test_search(connect: Connect, criteria: bytes, found: bytes) -> None:
    c = await connect("rita")
    await c.ok(HARD)
    assert await c.ok(b"SEARCH " + criteria) == [b"* SEARCH " + found if found else b"* SEARCH"]


async def test_search_results_and_charsets(connect: Connect) -> None:
    c = await connect("rita")
    await c.ok(HARD)
    *told, _ = await c.ask(b"UID SEARCH RETURN (MIN MAX COUNT ALL) NOT 3")
    assert re.fullmatch(rb'\* ESEARCH \(TAG "t\d+"\) UID COUNT 4 MIN 1 MAX 5 ALL 1:2,4:5', told[0])
    assert (await c.ask(b"SEARCH CHARSET x-unknown SUBJECT a"))[-1].startswith(b" NO [BADCHARSET (")
    assert (await c.ask(b"SEARCH CHARSET us-ascii SUBJECT {1+}\r\n\xe9"))[-1].startswith(b" NO [BADCHARSET (")


async def test_what_is_never_allowed(connect: Connect) -> None:
    c = await connect("adam")
    assert (await c.ask(b"APPEND INBOX {300000+}\r\n" + b"x" * 300_000))[-1].startswith(b" NO [CANNOT]")
    assert (await c.ask(b"APPEND INBOX (\\Seen) {300000}"))[-1].startswith(b" NO [CANNOT]")
    for command in (b"CREATE a", b"DELETE Other", b"RENAME Other b"):
        assert (await c.ask(command))[-1].startswith(b" NO [CANNOT]")
    assert (await c.ask(b"FETCH 1 FLAGS"))[-1].startswith(b" BAD")
    assert (await c.ask(b"LOGIN a b"))[-1].startswith(b" BAD")
    assert (await c.ask(b"XYZ"))[-1].startswith(b" BAD")
    await c.ok(b"NOOP")


async def test_login_is_needed_and_refused_alike(connect: Connect, server: ImapServer) -> None:
    c = await connect()
    assert (await c.ask(b"SELECT INBOX"))[-1].startswith(b" BAD")
    assert (await c.ask(b"APPEND INBOX {5+}\r\nhello"))[-1].startswith(b" BAD")
    wrong = (await c.ask(b"LOGIN rita wrong"))[-1]
    unknown = (await c.ask(b"LOGIN nobody wrong"))[-1]
    assert wrong == unknown
    assert wrong.startswith(b" NO [AUTHENTICATIONFAILED]")
    secret = base64.b64encode(b"\0rita\0" + PASSWORD.encode())
    assert (await c.ask(b"AUTHENTICATE PLAIN " + secret))[-1].startswith(b" OK [CAPABILITY")
    other = await connect()
    other.send(b"a AUTHENTICATE PLAIN\r\n")
    assert (await other.response()).startswith(b"+ ")
    other.send(secret + b"\r\n")
    assert (await other.response()).startswith(b"a OK")
    assert server.status()["logged_in"] == {"rita": 2}


async def test_guessing_ends_the_connection(connect: Connect) -> None:
    c = await connect()
    for _ in range(5):
        assert (await c.ask(b"LOGIN rita wrong"))[-1].startswith(b" NO")
    assert (await c.response()).startswith(b"* BYE")


async def test_pipelined_commands_in_any_pieces(connect: Connect) -> None:
    c = await connect("rita")
    data = b'a SELECT "Bounces/Hard"\r\nb SEARCH TEXT {5+}\r\nuser2\r\nc FETCH 2 (UID)\r\nd LOGOUT\r\n'
    for byte in data:
        c.send(bytes((byte,)))
        await asyncio.sleep(0)
    told = await c.until(b"d ")
    assert b"* SEARCH 2" in told
    assert b"* 2 FETCH (UID 2)" in told
    assert told[-2].startswith(b"* BYE")


async def test_every_fetch_item(connect: Connect) -> None:
    c = await connect("rita")
    await c.ok(b'EXAMINE "Bounces/Hard"')
    (full,) = await c.ok(b"FETCH 1 FULL")
    for word in (b"FLAGS (", b'INTERNALDATE "', b"RFC822.SIZE ", b'ENVELOPE (NIL "Undelivered mail" ', b"BODY (("):
        assert word in full
    (told,) = await c.ok(b"FETCH 1 (BODYSTRUCTURE BODY.PEEK[1] BODY.PEEK[2.MIME] BODY.PEEK[9] BODY.PEEK[TEXT]<0.3>)")
    assert b'"report-type" "delivery-status"' in told
    assert b"BODY[1] {45}\r\nThe mailbox user1@example.org does not exist." in told
    assert b"BODY[2.MIME] {41}\r\nContent-Type: message/delivery-status\r\n\r\n" in told
    assert b"BODY[9] NIL" in told
    assert b"BODY[TEXT]<0> {3}\r\n--b" in told


async def test_stopping_says_goodbye(connect: Connect, server: ImapServer) -> None:
    c: Client = await connect("rita")
    await server.stop()
    assert (await c.response()).startswith(b"* BYE")


async def test_crowds_are_turned_away(filled: Filled) -> None:
    server = await serve(filled.settings, connections_per_address=1)
    first = await Client.connect(server, "rita")
    reader, writer = await asyncio.open_connection(*server.addresses[0])
    assert (await reader.readline()).startswith(b"* BYE [UNAVAILABLE]")
    assert await reader.read() == b""
    writer.close()
    await first.close()
    await server.stop()


async def test_moves_go_in_pieces_and_copies_are_bounded(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.imap.actions._CHUNK", 2)
    monkeypatch.setattr("store.imap.actions.COPY_LIMIT", 3)
    c = await connect("anna")
    await c.ok(HARD)
    assert (await c.ask(b"COPY 1:4 Replies"))[-1] == b" NO [LIMIT] copy at most 3 messages at a time"
    assert b"[COPYUID" in (await c.ask(b"COPY 1:3 Replies"))[-1]
    copyuid, *gone = await c.ok(b"MOVE 1:* Complaints")
    assert re.fullmatch(rb"\* OK \[COPYUID \d+ 1:5 1:5\] moved", copyuid)
    assert gone == [b"* %d EXPUNGE" % n for n in (5, 4, 3, 2, 1)]
    assert await c.ok(b"STATUS Complaints (MESSAGES)") == [b"* STATUS Complaints (MESSAGES 5)"]


async def test_keywords_of_a_message_are_bounded(connect: Connect) -> None:
    c = await connect("anna")
    await c.ok(HARD)
    await c.ok(b"STORE 1 FLAGS.SILENT (%b)" % b" ".join(b"k%d" % n for n in range(100)))
    assert (await c.ask(b"STORE 1 +FLAGS (one.more)"))[-1].startswith(b" NO [CANNOT]")
    await c.ok(b"STORE 1 -FLAGS.SILENT (k7)")
    await c.ok(b"STORE 1 +FLAGS.SILENT (one.more)")


async def test_who_was_away_too_long_is_told_all_the_same(
    connect: Connect, filled: Filled, server: ImapServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index has forgotten what was expunged: the folder is compared."""
    monkeypatch.setattr("store.entries.EXPUNGED_KEPT", 1)
    monkeypatch.setattr("store.entries.EXPUNGED_SLACK", 0)
    c = await connect("anna")
    await c.ok(HARD)
    other = Mailboxes(filled.quarantine)
    before = other.poll()["Bounces/Hard"]
    async with server._backend._lock("Bounces/Hard"):  # the watcher must not hear of it step by step
        for uid in (2, 4):
            other.store("Bounces/Hard", "anna", [uid], FlagChange(set_bits=4))
            assert other.expunge("Bounces/Hard", "anna", [uid]) == [uid]
        other.store("Bounces/Hard", "anna", [3], FlagChange(set_bits=1, add=("$New",)))
        filled.file(bounce(b"late@example.org"))
    assert other.changes("Bounces/Hard", before) is None
    told = await c.ok(b"NOOP")
    assert [line for line in told if b"EXPUNGE" in line] == [b"* 4 EXPUNGE", b"* 2 EXPUNGE"]
    assert b"* 4 EXISTS" in told
    assert any(line.startswith(b"* 2 FETCH (FLAGS (\\Seen") and b"$New" in line for line in told)
    assert await c.ok(b"UID SEARCH ALL") == [b"* SEARCH 1 3 5 6"]


async def test_a_large_message_is_read_once_for_all_its_pieces(
    connect: Connect, filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    (filed,) = filled.file(b"Subject: big\r\n\r\n" + (b"z" * 98 + b"\r\n") * 5000)
    reads = []
    read = segments.read

    def counted(directory: Path, place: segments.Place) -> segments.Frame:
        reads.append(place)
        return read(directory, place)

    monkeypatch.setattr(segments, "read", counted)
    c = await connect("rita")
    await c.ok(b"EXAMINE " + filed.folder.encode())
    (told,) = await c.ok(b"FETCH 1 BODY.PEEK[]")
    whole, _ = _literal(told, b"BODY[] ")
    pieces = []
    for offset in range(0, len(whole), 65_536):
        (told,) = await c.ok(b"FETCH 1 BODY.PEEK[]<%d.65536>" % offset)
        pieces.append(_literal(told, b"BODY[]<%d> " % offset)[0])
    assert b"".join(pieces) == whole
    assert len(reads) == 1
    recent = RecentTexts()
    for number in range(5):
        recent.keep("x", number, bytes(20_000_000))
    assert [recent.get("x", number) is not None for number in range(5)] == [False, False, True, True, True]
