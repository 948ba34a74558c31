"""What clients that cannot run here are known to say: each command is understood, and the last one ends well.

Thunderbird, Apple Mail, Outlook, K-9 Mail and Roundcube, written from what is known of them, not captured;
other clients run in `test_clients.py`.
"""

from __future__ import annotations

import base64

import pytest

from tests.imap.conftest import Connect
from tests.support.imap import PASSWORD, Filled
from tests.support.store import bounce

LOGIN = base64.b64encode(b"\0anna\0" + PASSWORD.encode())
THUNDERBIRD = [
    b"capability",
    b"authenticate PLAIN " + LOGIN,
    b'ID ("name" "Thunderbird" "version" "140.0")',
    b"namespace",
    b'lsub "" "*"',
    b'list "" "INBOX"',
    b'select "INBOX"',
    b"UID fetch 1:* (FLAGS)",
    b'list "" "*"',
    b'STATUS "Bounces/Hard" (UIDNEXT MESSAGES UNSEEN RECENT)',
    b'select "Bounces/Hard"',
    b"UID fetch 1:* (FLAGS)",
    (
        b"UID fetch 1:5 (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID"
        b" Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To)])"
    ),
    b"UID fetch 5 (UID RFC822.SIZE BODY.PEEK[])",
    b"UID fetch 5 (UID RFC822.SIZE BODY.PEEK[]<0.65536>)",
    b"UID fetch 4 (UID BODYSTRUCTURE)",
    b"UID fetch 4 (BODY.PEEK[HEADER] BODY.PEEK[1.MIME] BODY.PEEK[1] BODY.PEEK[2.MIME] BODY.PEEK[2])",
    b"uid store 5 +Flags (\\Seen)",
    b"uid store 4 -FLAGS (NonJunk Junk)",
    b"uid store 4 +FLAGS (NonJunk $label1)",
    b'uid copy 4 "Replies"',
    b'uid move 4 "Complaints"',
    b'UID SEARCH (UNDELETED) (SUBJECT "Undelivered")',
    b"noop",
    b"uid store 3 +Flags (\\Deleted)",
    b"uid expunge 3",
    b"expunge",
    b"close",
    b"logout",
]
APPLE_MAIL = [
    b"CAPABILITY",
    b'ID ("name" "Mac OS X Mail" "version" "16.0" "os" "Mac OS X" "os-version" "14.0" "vendor" "Apple Inc.")',
    b"LOGIN anna {%d+}\r\n%b" % (len(PASSWORD), PASSWORD.encode()),
    b'LIST "" ""',
    b'LIST "" "*"',
    b"STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)",
    b"SELECT Bounces/Hard",
    b"UID SEARCH UID 1:* NOT DELETED",
    b"FETCH 1:* (FLAGS UID)",
    (
        b"UID FETCH 1:5 (INTERNALDATE UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (date subject from to cc "
        b"message-id in-reply-to references content-type x-priority x-uniform-type-identifier "
        b"x-universally-unique-identifier list-id list-unsubscribe bimi-indicator bimi-location "
        b"authentication-results dkim-signature)])"
    ),
    b"UID FETCH 1 (BODYSTRUCTURE BODY.PEEK[HEADER])",
    b"UID FETCH 1 BODY.PEEK[1.MIME]",
    b"UID FETCH 1 BODY.PEEK[2]<0.1234>",
    b"UID STORE 1 +FLAGS.SILENT (\\Seen $NotJunk NotJunk)",
    b"UID STORE 1 -FLAGS.SILENT ($Junk Junk)",
    b"CHECK",
    b"UNSELECT",
    b"LOGOUT",
]
OUTLOOK = [
    b"CAPABILITY",
    b'LOGIN "anna" "a good pass \\\\ word\\""',
    b'ID ("name" "Microsoft Outlook" "version" "16.0")',
    b'LIST "" "*"',
    b'LSUB "" "*"',
    b'LIST "" "Bounces/%"',
    b'SUBSCRIBE "Bounces/Hard"',
    b'EXAMINE "Bounces/Hard"',
    b"UID SEARCH 1:* SINCE 1-Jan-2024",
    b"UID FETCH 1:* (UID FLAGS)",
    b"UID FETCH 1,2,3:5 (UID FLAGS INTERNALDATE RFC822.SIZE RFC822.HEADER BODY)",
    b'SELECT "Bounces/Hard"',
    b"UID FETCH 2 (UID FLAGS RFC822.SIZE BODY.PEEK[] INTERNALDATE)",
    b"UID FETCH 2 (RFC822.TEXT)",
    b"UID STORE 2 FLAGS.SILENT (\\Seen \\Flagged)",
    b"NOOP",
    b"CLOSE",
    b"LOGOUT",
]
K9 = [
    b"AUTHENTICATE PLAIN " + LOGIN,
    b'ID ("name" "K-9 Mail" "version" "8.0")',
    b'LIST "" "*"',
    b'SELECT "Bounces/Hard"',
    b"UID SEARCH 1:* NOT DELETED",
    b"UID FETCH 5,4 (UID FLAGS)",
    (
        b"UID FETCH 5,4 (UID INTERNALDATE RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (date subject from "
        b"content-type to cc reply-to message-id references in-reply-to list-unsubscribe sender "
        b"X-K9mail-Identity Chat-Version)])"
    ),
    b"UID FETCH 5 (UID BODYSTRUCTURE)",
    b"UID FETCH 5 (UID BODY.PEEK[1]<0.32768>)",
    b"UID FETCH 5 (UID BODY.PEEK[HEADER] BODY.PEEK[TEXT]<0.32768>)",
    b"UID STORE 5 +FLAGS.SILENT (\\Seen)",
    b"UID SEARCH KEYWORD $Hard UNFLAGGED OR FROM daemon HEADER MESSAGE-ID <x@y>",
    b"LOGOUT",
]
ROUNDCUBE = [
    b'ID ("name" "Roundcube" "version" "1.6")',
    b"AUTHENTICATE PLAIN " + LOGIN,
    b"NAMESPACE",
    b'LIST "" *',
    b'LSUB "" *',
    b"STATUS Bounces/Hard (MESSAGES RECENT UNSEEN UIDNEXT UIDVALIDITY)",
    b"SELECT Bounces/Hard",
    b"UID SEARCH RETURN (ALL COUNT) UNDELETED",
    b"SEARCH RETURN (ALL) UNSEEN UNDELETED",
    (
        b"UID FETCH 1:5 (UID RFC822.SIZE FLAGS INTERNALDATE BODYSTRUCTURE BODY.PEEK[HEADER.FIELDS (DATE FROM "
        b"TO SUBJECT CONTENT-TYPE CC REPLY-TO LIST-POST DISPOSITION-NOTIFICATION-TO X-PRIORITY)])"
    ),
    b"FETCH 2 (UID BODYSTRUCTURE)",
    b"UID FETCH 2 (BODY.PEEK[1])",
    b"UID FETCH 2 (BODY.PEEK[2.HEADER] BODY.PEEK[3] BODY.PEEK[])",
    b"UID SEARCH RETURN (ALL) CHARSET UTF-8 OR HEADER SUBJECT {9+}\r\nZur\xc3\xbcckge HEADER FROM {6+}\r\ndaemon",
    b"UID STORE 2 +FLAGS.SILENT (\\Answered \\Flagged)",
    b"UID COPY 2 Other",
    b"LOGOUT",
]
CLIENTS = {"thunderbird": THUNDERBIRD, "apple mail": APPLE_MAIL, "outlook": OUTLOOK, "k-9": K9, "roundcube": ROUNDCUBE}


@pytest.mark.parametrize("client", CLIENTS)
async def test_known_dialogues(connect: Connect, filled: Filled, client: str) -> None:
    filled.file(*(bounce() for _ in range(2)))
    c = await connect()
    for command in CLIENTS[client]:
        *_, tagged = await c.ask(command)
        assert tagged.startswith(b" OK"), (command, tagged)


@pytest.mark.parametrize("folder", ["INBOX", "Bounces/Hard"])
async def test_idle_as_thunderbird_does(connect: Connect, filled: Filled, folder: str) -> None:
    """It idles in the folder that is open, and ends that with DONE to look at another."""
    c = await connect("anna")
    await c.ok(b'select "%b"' % folder.encode())
    c.send(b"9 IDLE\r\n")
    await c.until(b"+ ")
    filled.file(bounce())
    if folder != "INBOX":
        assert (await c.until(b"* 6 EXISTS"))[-1] == b"* 6 EXISTS"
    c.send(b'DONE\r\n10 select "Bounces/Hard"\r\n')
    assert b"* 6 EXISTS" in await c.until(b"10 OK")
