"""An IMAP server over a real quarantine on a free port, and a bare client that shows every byte."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from store.accounts import Accounts
from store.filing import BatchFiler
from store.imap.server import ImapServer
from store.prepare import Prepared
from store.quarantine import Quarantine
from store.settings import ImapSettings, StoreSettings
from tests.support.store import filing, make_entry, settings_for

USERS = {"rita": "reader", "anna": "analyst", "adam": "admin"}
PASSWORD = 'a good pass \\ word"'
_LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")


@dataclass
class Filled:
    """A quarantine with messages, and what is needed to add more."""

    settings: StoreSettings
    quarantine: Quarantine
    filer: BatchFiler

    def file(self, *originals: bytes) -> list[Prepared]:
        """File messages (wire bytes, dot-stuffed)."""
        filings = [filing(self.settings, make_entry(original)) for original in originals]
        self.filer.file(filings)
        return [one.prepared for one in filings]

    def close(self) -> None:
        self.filer.close()
        self.quarantine.close()


def quarantine(directory: Path) -> Filled:
    """An empty quarantine with the accounts of USERS."""
    settings = settings_for(directory)
    opened = Quarantine.open(settings)
    accounts = Accounts(opened.index)
    for name, role in USERS.items():
        accounts.add(name, PASSWORD, role)
    return Filled(settings, opened, BatchFiler(opened))


async def serve(store: StoreSettings, **changes: Any) -> ImapServer:
    """A running server; `stop` it."""
    settings = ImapSettings(listen=("127.0.0.1:0",), poll_interval_s=0.05, store=store)
    server = ImapServer(replace(settings, **changes), login_delay_s=0.01)
    await server.start()
    return server


class Client:
    """Sends what it is told, and reads responses with their literals in place."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._tag = 0

    @classmethod
    async def connect(cls, server: ImapServer, user: str = "", *, ssl: Any = None, at: int = 0) -> Client:
        host, port = server.addresses[at]
        client = cls(*await asyncio.open_connection(host, port, ssl=ssl, limit=2**24))
        greeting = await client.response()
        assert greeting.startswith(b"* OK [CAPABILITY IMAP4rev1"), greeting
        if user:
            secret = PASSWORD.encode()
            assert b" OK " in (await client.ask(b"LOGIN %b {%d+}\r\n%b" % (user.encode(), len(secret), secret)))[-1]
        return client

    async def response(self) -> bytes:
        """One response, its literals included, without the last CRLF."""
        async with asyncio.timeout(30):
            data = await self.reader.readline()
            while found := _LITERAL.search(data):
                data += await self.reader.readexactly(int(found[1]))
                data += await self.reader.readline()
        if not data.endswith(b"\r\n"):
            raise EOFError(data)
        return data[:-2]

    async def until(self, start: bytes) -> list[bytes]:
        """All responses up to one that begins so."""
        found = [await self.response()]
        while not found[-1].startswith(start):
            found.append(await self.response())
        return found

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def ask(self, command: bytes) -> list[bytes]:
        """Send a command under a fresh tag; all responses, the tagged one (without its tag) last."""
        self._tag += 1
        tag = b"t%d" % self._tag
        self.send(b"%b %b\r\n" % (tag, command))
        found = await self.until(tag + b" ")
        return [*found[:-1], found[-1].removeprefix(tag)]

    async def ok(self, command: bytes) -> list[bytes]:
        """`ask`, and the untagged responses of what must succeed."""
        *untagged, tagged = await self.ask(command)
        assert tagged.startswith(b" OK"), tagged
        return untagged

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()
