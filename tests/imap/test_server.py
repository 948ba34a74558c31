"""The server's edges: TLS, time limits, slow readers, damage, accounts that go, starting and stopping."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sqlite3
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from store.accounts import Accounts
from store.errors import CommandError, StartError
from store.imap.backend import Backend
from store.imap.connection import _is_loopback
from store.imap.grammar import Command, parse
from store.imap.server import ImapServer
from store.imap.session import Gate, Session
from store.mailboxes import Mailboxes
from store.settings import ImapSettings
from tests.imap.conftest import Connect
from tests.support.imap import PASSWORD, Client, Filled, serve
from tests.support.store import bounce


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[dict[str, Any], ssl.SSLContext]:
    """Settings for a server with TLS, and a context that trusts it."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return {"tls_cert": tmp_path / "cert.pem", "tls_key": tmp_path / "key.pem"}, context


async def test_tls_from_the_first_byte(filled: Filled, certificate: tuple[dict[str, Any], ssl.SSLContext]) -> None:
    settings, context = certificate
    server = await serve(filled.settings, listen_tls=("127.0.0.1:0",), **settings)
    client = await Client.connect(server, "anna", ssl=context, at=1)
    assert not any(b"STARTTLS" in line for line in await client.ok(b"CAPABILITY"))
    await client.close()
    await server.stop()


async def test_starttls(filled: Filled, certificate: tuple[dict[str, Any], ssl.SSLContext]) -> None:
    settings, context = certificate
    server = await serve(filled.settings, **settings)
    client = await Client.connect(server)
    assert b" STARTTLS" in (await client.ok(b"CAPABILITY"))[0]
    await client.ok(b"STARTTLS")
    await client.writer.start_tls(context, server_hostname="127.0.0.1")
    assert b" STARTTLS" not in (await client.ok(b"CAPABILITY"))[0]
    assert (await client.ask(b"STARTTLS"))[-1].startswith(b" BAD")
    await client.ok(b'LOGIN anna "a good pass \\\\ word\\""')
    await client.ok(b"SELECT Bounces/Hard")
    await client.close()
    await server.stop()


async def test_plain_text_after_starttls_is_not_taken_for_more(
    filled: Filled, certificate: tuple[dict[str, Any], ssl.SSLContext]
) -> None:
    server = await serve(filled.settings, **certificate[0])
    client = await Client.connect(server)
    client.send(b"a STARTTLS\r\nb NOOP\r\n")
    assert (await client.response()).startswith(b"* BYE")
    await client.close()
    await server.stop()


async def test_plain_text_that_comes_while_tls_begins_is_not_obeyed(
    filled: Filled, certificate: tuple[dict[str, Any], ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even what arrives between the look for it and the handshake: that meets it in the kernel and fails."""
    run = Session.run

    async def run_slowly(session: Session, command: Command, lines: Any) -> None:
        await run(session, command, lines)
        await asyncio.sleep(0.2)

    settings, context = certificate
    server = await serve(filled.settings, **settings)
    client = await Client.connect(server)
    monkeypatch.setattr(Session, "run", run_slowly)
    client.send(b"a STARTTLS\r\n")
    assert (await client.response()).startswith(b"a OK")
    client.send(b"b NOOP\r\n")
    await asyncio.sleep(0.4)  # or the handshake would come along
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        await client.writer.start_tls(context, server_hostname="127.0.0.1")
        assert not (await client.reader.readline()).startswith(b"b OK")
    client.writer.close()
    await server.stop()


async def test_no_login_in_the_clear_from_elsewhere(filled: Filled) -> None:
    """As on an address that is not loopback, which a test cannot count on having."""
    assert _is_loopback("127.0.0.1")
    assert _is_loopback("::1")
    assert not _is_loopback("192.0.2.1")
    assert not _is_loopback("0.0.0.0")
    sent: list[bytes] = []

    class Sink:
        async def send(self, data: bytes) -> None:
            sent.append(data)

    async def never(user: str, password: str) -> str | None:
        raise AssertionError(user, password)

    gate = Gate(may_start_tls=True, may_log_in=False, verify=never)
    session = Session(Backend(Mailboxes(filled.quarantine), poll_interval_s=1), Sink(), gate)
    for command in (b"LOGIN a b", b"AUTHENTICATE PLAIN AGEAYg=="):
        await session.run(parse(b"a " + command), None)  # type: ignore[arg-type]
        assert sent.pop().startswith(b"a NO [PRIVACYREQUIRED]")
    assert b"LOGINDISABLED" in session.capabilities
    assert b"AUTH=PLAIN" not in session.capabilities


async def test_silence_ends_a_connection(filled: Filled) -> None:
    server = await serve(filled.settings, login_timeout_s=0.2, idle_timeout_s=0.5)
    stranger, friend = await Client.connect(server), await Client.connect(server, "rita")
    assert (await stranger.response()).startswith(b"* BYE")
    friend.send(b"a IDLE\r\n")
    assert (await friend.until(b"* BYE"))[0].startswith(b"+ ")
    for client in (stranger, friend):
        await client.close()
    await server.stop()


async def test_a_client_that_does_not_read_costs_bounded_memory(filled: Filled, server: ImapServer) -> None:
    (filed,) = await asyncio.to_thread(filled.file, b"Subject: big\r\n\r\n" + (b"y" * 998 + b"\r\n") * 5000)
    plug = socket.create_connection(server.addresses[0])
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plug.sendall(b'a LOGIN rita "a good pass \\\\ word\\""\r\n')
    plug.sendall(b"b SELECT %b\r\n" % filed.folder.encode() + b"c FETCH 1 BODY.PEEK[]\r\n" * 200)
    friend = await Client.connect(server, "rita")
    for _ in range(20):
        await friend.ok(b"NOOP")
        await asyncio.sleep(0.02)
    buffered = max(c._writer.transport.get_write_buffer_size() for c in server._connections)
    assert buffered < 8_000_000, "one message and a little"
    plug.close()
    await friend.close()


async def test_a_damaged_message_does_not_hide_the_others(connect: Connect, filled: Filled) -> None:
    (segment,) = (filled.settings.state_dir / "quarantine").rglob("*.seg")
    data = bytearray(segment.read_bytes())
    data[-20] ^= 0xFF  # in the last frame
    segment.write_bytes(data)
    c = await connect("rita")
    await c.ok(b"SELECT Bounces/Hard")
    *told, done = await c.ask(b"FETCH 1:* BODY.PEEK[]")
    assert len(told) == 4
    assert done.startswith(b" NO [UNAVAILABLE]")
    assert await c.ok(b"SEARCH BODY user2@") == [b"* SEARCH 2"]


async def test_an_index_that_cannot_be_written_can_be_read(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.index.BUSY_TIMEOUT_S", 0.05)
    server = await serve(filled.settings)
    c = await Client.connect(server, "anna")
    await c.ok(b"SELECT Bounces/Hard")
    with contextlib.closing(sqlite3.connect(filled.settings.state_dir / "index.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for command in (b"STORE 1 +FLAGS (\\Seen)", b"MOVE 1 Replies", b"COPY 1 Replies"):
            assert (await c.ask(command))[-1].startswith(b" NO [UNAVAILABLE]")
        (told,) = await c.ok(b"FETCH 1 BODY[]")
        assert b"user1@example.org" in told
        assert await c.ok(b"SEARCH SEEN") == [b"* SEARCH"]
    assert any(b"\\Seen" in line for line in await c.ok(b"FETCH 1 BODY[]"))
    await c.close()
    await server.stop()


async def test_a_bug_is_answered_and_survived(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    c = await connect("anna")
    await c.ok(b"SELECT Bounces/Hard")

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(Mailboxes, "store", broken)
        assert (await c.ask(b"STORE 1 +FLAGS (\\Seen)"))[-1].startswith(b" NO [SERVERBUG]")
    await c.ok(b"STORE 1 +FLAGS (\\Seen)")


async def test_removed_accounts_are_logged_out(filled: Filled) -> None:
    server = ImapServer(ImapSettings(listen=("127.0.0.1:0",), store=filled.settings), recheck_s=0.05)
    await server.start()
    client, other = await Client.connect(server, "anna"), await Client.connect(server, "rita")
    Accounts(filled.quarantine.index).remove("anna")
    assert (await client.response()).startswith(b"* BYE")
    await other.ok(b"NOOP")
    for one in (client, other):
        await one.close()
    await server.stop()


async def test_many_sessions_at_once(connect: Connect, filled: Filled) -> None:
    """Twenty clients change flags while mail arrives; in the end all agree."""
    clients = [await connect("anna") for _ in range(20)]

    async def work(number: int, client: Client) -> None:
        await client.ok(b"SELECT Bounces/Hard")
        for turn in range(5):
            await client.ok(b"UID STORE %d +FLAGS ($k%d)" % (1 + (number + turn) % 5, number))
            await client.ok(b"UID FETCH 1:* (FLAGS BODY.PEEK[HEADER])")

    arrivals = asyncio.to_thread(filled.file, *(bounce(b"late%d@example.org" % n) for n in range(50)))
    await asyncio.gather(arrivals, *(work(n, c) for n, c in enumerate(clients)))
    views = []
    for client in clients:
        await client.ok(b"NOOP")
        lines = [line.replace(b" \\Recent", b"") for line in await client.ok(b"FETCH 1:* (UID FLAGS)")]
        views.append(lines)
    assert len(views[0]) == 55
    assert all(view == views[0] for view in views)
    words = b" ".join(views[0]).replace(b")", b" ").replace(b"(", b" ").split()
    assert {b"$k%d" % n for n in range(20)} <= set(words)


async def test_starting_fails_with_one_line(filled: Filled, server: ImapServer, tmp_path: Path) -> None:
    host, port = server.addresses[0]
    for settings in (
        ImapSettings(listen=(f"{host}:{port}",), store=filled.settings),
        ImapSettings(listen=("nonsense",), store=filled.settings),
        ImapSettings(listen=(), listen_tls=("127.0.0.1:0",), store=filled.settings),
        ImapSettings(listen=(), tls_cert=tmp_path / "missing.pem", store=filled.settings),
    ):
        with pytest.raises(StartError) as error:
            await ImapServer(settings).start()
        assert "\n" not in str(error.value)


async def test_status_and_commands(connect: Connect, server: ImapServer) -> None:
    c = await connect("anna")
    await c.ok(b"SELECT Bounces/Hard")
    status = server.status()
    assert status["connections"] == 1
    assert status["folders_in_memory"] == {"Bounces/Hard": 5}
    told = await server.command("sessions", {})
    assert told == {"sessions": [{"peer": "127.0.0.1", "account": "anna", "folder": "Bounces/Hard"}]}
    with pytest.raises(CommandError):
        await server.command("nonsense", {})
    assert PASSWORD not in str(status)
