"""Real clients against the real server: each logs in, lists, reads, searches, flags and expunges."""

from __future__ import annotations

import asyncio
import contextlib
import email
import imaplib
import os
import subprocess
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aioimaplib
import pytest

from store.accounts import Accounts
from store.imap.server import ImapServer
from tests.support.imap import PASSWORD, USERS, Filled, quarantine, serve
from tests.support.store import bounce

PLAIN_PASSWORD = "secret"  # what configuration files can hold without quoting rules of their own


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ImapServer]:
    filled: Filled = quarantine(tmp_path / "state")
    Accounts(filled.quarantine.index).add("anna", PLAIN_PASSWORD, USERS["anna"])
    filled.file(*(bounce(b"user%d@example.org" % n) for n in range(1, 8)))
    filled.file(b"Subject: =?utf-8?q?R=C3=BCckl=C3=A4ufer?=\r\nFrom: a@b.example\r\n\r\nbody\r\n")
    running = await serve(filled.settings)
    yield running
    await running.stop()
    filled.close()


def _port(server: ImapServer) -> int:
    return server.addresses[0][1]


async def _run(*command: str, **options: Any) -> str:
    """Run a client; its output. It must succeed."""

    def run() -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, capture_output=True, timeout=60, check=False, **options)

    done = await asyncio.to_thread(run)
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout.decode("utf-8", "replace")


async def test_imaplib(server: ImapServer) -> None:
    await asyncio.to_thread(_imaplib, _port(server))


def _imaplib(port: int) -> None:
    with imaplib.IMAP4("127.0.0.1", port) as c:
        assert c.login("adam", PASSWORD)[0] == "OK"
        names = [line for line in c.list()[1] if isinstance(line, bytes)]
        assert any(b"Bounces/Hard" in line for line in names)
        assert c.select("Bounces/Hard") == ("OK", [b"7"])
        assert c.search(None, "SUBJECT", '"Undelivered"')[1] == [b"1 2 3 4 5 6 7"]
        assert c.uid("SEARCH", "BODY", "user3@example.org")[1] == [b"3"]
        c.literal = "Rückläufer".encode()  # type: ignore[assignment]
        assert c.search("UTF-8", "SUBJECT")[1] == [b""]
        fetched = c.fetch("1", "(FLAGS ENVELOPE BODY[])")[1][0]
        assert isinstance(fetched, tuple)
        assert email.message_from_bytes(fetched[1])["Subject"] == "Undelivered mail"
        assert b"\\Seen" in (c.fetch("1", "(FLAGS)")[1][0] or b"")
        assert c.copy("2", "Other")[0] == "OK"
        assert c.store("2:3", "+FLAGS", "(\\Deleted \\Flagged)")[0] == "OK"
        assert c.expunge()[1] == [b"3", b"2"]
        assert c.create("x")[0] == "NO"
        assert c.append("INBOX", "", "", b"From: x\r\n\r\ny")[0] == "NO"
        assert c.status("Bounces/Hard", "(MESSAGES UNSEEN)")[1] == [b"Bounces/Hard (MESSAGES 5 UNSEEN 4)"]
        assert c.close()[0] == "OK"


async def test_aioimaplib(server: ImapServer) -> None:
    c = aioimaplib.IMAP4(host="127.0.0.1", port=_port(server), timeout=30)
    await c.wait_hello_from_server()
    assert (await c.login("anna", PLAIN_PASSWORD)).result == "OK"
    assert any(b"Bounces/Hard" in line for line in (await c.list('""', "*")).lines)
    assert (await c.select("Bounces/Hard")).result == "OK"
    assert (await c.search("UNSEEN")).lines[0] == b"1 2 3 4 5 6 7"
    fetched = (await c.fetch("1", "(BODY.PEEK[])")).lines
    assert b"Subject: Undelivered mail" in fetched[1]
    await c.idle_start(timeout=20)
    other = aioimaplib.IMAP4(host="127.0.0.1", port=_port(server), timeout=30)
    await other.wait_hello_from_server()
    await other.login("anna", PLAIN_PASSWORD)
    await other.select("Bounces/Hard")
    await other.store("4", "+FLAGS", "(\\Deleted)")
    assert (await other.expunge()).result == "OK"
    pushed: list[bytes] = []
    while b"4 EXPUNGE" not in pushed:
        pushed += await c.wait_server_push(timeout=20)
    c.idle_done()
    assert (await c.uid("fetch", "1:*", "FLAGS")).result == "OK"
    for client in (c, other):
        assert (await client.logout()).result == "OK"


@pytest.mark.system("curl")
async def test_curl(server: ImapServer) -> None:
    url = f"imap://127.0.0.1:{_port(server)}"
    login = ("curl", "-sS", "--max-time", "30", "-u", f"anna:{PLAIN_PASSWORD}")
    assert "Bounces/Hard" in await _run(*login, f"{url}/")
    assert "SEARCH 5\r" in await _run(*login, f"{url}/Bounces%2FHard?BODY%20user5@example.org")
    assert "X-Bouncetap-Kind: bounce" in await _run(*login, f"{url}/Bounces%2FHard;MAILINDEX=1")
    assert "user4@" in await _run(*login, f"{url}/Bounces%2FHard;UID=4/;SECTION=TEXT")
    flag = ("-X", "UID STORE 6 +FLAGS (\\Deleted)")
    assert "\\Deleted" in await _run(*login, f"{url}/Bounces%2FHard", *flag)
    assert "6 EXPUNGE" in await _run(*login, f"{url}/Bounces%2FHard", "-X", "EXPUNGE")


def mbsync_configuration(tmp_path: Path, port: int, patterns: str) -> Path:
    """A file for mbsync that mirrors these folders to `tmp_path/mail`."""
    configuration = tmp_path / "mbsyncrc"
    configuration.write_text(
        textwrap.dedent(f"""\
            IMAPAccount q
            Host 127.0.0.1
            Port {port}
            User anna
            Pass {PLAIN_PASSWORD}
            SSLType None
            AuthMechs *

            IMAPStore far
            Account q

            MaildirStore near
            Path {tmp_path}/mail/
            Inbox {tmp_path}/mail/INBOX
            SubFolders Verbatim

            Channel q
            Far :far:
            Near :near:
            Patterns {patterns}
            Create Near
            Expunge Both
            SyncState *
        """)
    )
    (tmp_path / "mail").mkdir()
    return configuration


@pytest.mark.system("mbsync")
async def test_mbsync(server: ImapServer, tmp_path: Path) -> None:
    configuration = mbsync_configuration(tmp_path, _port(server), "Bounces/* Replies Other")
    await _run("mbsync", "-c", str(configuration), "-a")
    hard = tmp_path / "mail/Bounces/Hard"
    mails = sorted(path for part in ("new", "cur") for path in (hard / part).iterdir())
    assert len(mails) == 7
    assert all(b"X-Bouncetap-Id: " in path.read_bytes() for path in mails)
    seen, gone, *_ = mails
    seen.rename(hard / "cur" / (seen.name.split(":")[0] + ":2,FS"))
    gone.rename(hard / "cur" / (gone.name.split(":")[0] + ":2,T"))
    await _run("mbsync", "-c", str(configuration), "-a")
    await asyncio.to_thread(_check_mbsync, _port(server))


def _check_mbsync(port: int) -> None:
    with imaplib.IMAP4("127.0.0.1", port) as c:
        c.login("anna", PLAIN_PASSWORD)
        assert c.select("Bounces/Hard") == ("OK", [b"6"])
        assert c.search(None, "SEEN", "FLAGGED")[1] == [b"1"]


Keys = Callable[..., Awaitable[None]]


@contextlib.asynccontextmanager
async def mutt(tmp_path: Path, port: int) -> AsyncIterator[tuple[Keys, Keys]]:
    """Mutt in a terminal, on Bounces/Hard: a function that types keys, and one that waits for a text to appear."""
    configuration = tmp_path / "muttrc"
    folder = f"imap://anna@127.0.0.1:{port}/"
    configuration.write_text(
        textwrap.dedent(f"""\
            set folder="{folder}" spoolfile="{folder}Bounces/Hard" imap_pass="{PLAIN_PASSWORD}"
            set ssl_starttls=no ssl_force_tls=no header_cache="" record="" postponed="" sort=mailbox-order
            set pager_stop=yes wait_key=no delete=yes move=no quit=yes mark_old=no sleep_time=0 help=no
            set index_format="%C %Z %s" weed=no
        """)
    )
    socket, show = str(tmp_path / "tmux"), ("capture-pane", "-p", "-t", "m")
    environment = {**os.environ, "HOME": str(tmp_path), "TERM": "xterm", "LC_ALL": "C.UTF-8"}

    async def tmux(*arguments: str) -> str:
        return await _run("tmux", "-S", socket, *arguments, env=environment)

    async def keys(*names: str) -> None:
        await tmux("send-keys", "-t", "m", *names)

    async def until(text: str) -> None:
        async with asyncio.timeout(60):
            while text not in await tmux(*show):  # noqa: ASYNC110 (another process)
                await asyncio.sleep(0.1)

    await tmux("new-session", "-d", "-s", "m", "-x", "120", "-y", "40", f"mutt -n -F {configuration}")
    try:
        yield keys, until
    finally:
        with contextlib.suppress(AssertionError):
            await tmux("kill-server")


@pytest.mark.system("mutt", "tmux")
async def test_mutt(server: ImapServer, tmp_path: Path) -> None:
    """In a terminal: open the folder, read the first message, limit by a search, flag one, delete one, sync."""
    async with mutt(tmp_path, _port(server)) as (keys, until):
        await until("Undelivered mail")
        await keys("1", "Enter", "Enter")
        await until("The mailbox user1@example.org")
        await keys("q")
        await until("Msgs:7")
        await keys("l", "~b user5@example.org", "Enter")
        await until("Msgs:1/7")
        await keys("F")
        await keys("l", "all", "Enter", "2", "Enter", "d", "$")
        await _until_mutt_has_synced(_port(server))


async def _until_mutt_has_synced(port: int) -> None:
    async with asyncio.timeout(40):
        while not await asyncio.to_thread(_mutt_has_synced, port):  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.2)


def _mutt_has_synced(port: int) -> bool:
    with imaplib.IMAP4("127.0.0.1", port) as c:
        c.login("anna", PLAIN_PASSWORD)
        c.select("Bounces/Hard", readonly=True)
        flagged, seen = c.uid("SEARCH", "FLAGGED")[1], c.uid("SEARCH", "SEEN")[1]
        left = c.uid("SEARCH", "ALL")[1]
        return (flagged, left) == ([b"5"], [b"1 3 4 5 6 7"]) and b"1" in (seen[0] or b"").split()
