"""A whole tap with a real journal in front of scripted handlers, and a sender that speaks SMTP to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from proxy.delivery import Delivery
from proxy.journal import JournalWriter, new_id
from proxy.journal.audit import Summary, ls
from proxy.journal.files import Files
from proxy.server import ProxyServer
from proxy.settings import JournalSettings, Legacy, Limits, Listen, ProxySettings
from proxy.types import Incoming
from tests.support.handler import Handler
from tests.support.inbound import TIMEOUT_S, Client, until

BODY = b"Subject: returned\r\n\r\n..dots, bare \r and \n, \x00 and \xff\r\n"
RCPT = b"<a@bounces.example>"
QUICK = Legacy(
    deadline_s=20.0,  # far away, where a test is not about it
    retry_min_s=0.05,
    retry_max_s=0.2,
    connect_timeout_s=5.0,
    greeting_timeout_s=20.0,
    command_timeout_s=20.0,
    reply_timeout_s=60.0,
)


def settings(path: Path, hosts: tuple[str, ...], **legacy: Any) -> ProxySettings:
    """Keys of `Legacy`; `on_failure` and other keys of `JournalSettings` and `Listen` by their names, too."""
    journal = {key: legacy.pop(key) for key in list(legacy) if key in JournalSettings.__dataclass_fields__}
    listen = {key: legacy.pop(key) for key in list(legacy) if key in Listen.__dataclass_fields__}
    return ProxySettings(
        listen=Listen(
            listen=("127.0.0.1:0",),
            hostname="tap.example",
            domains=("bounces.example",),
            limits=Limits(rate_per_address=1_000_000, connections_per_address=1000),
            drain_timeout_s=0.2,
            **listen,
        ),
        legacy=replace(QUICK, hosts=hosts, **legacy),
        journal=JournalSettings(**{"dir": path / "journal", "reserve_bytes": 0, "segment_bytes": 1 << 20, **journal}),
        state_dir=path,
    )


@dataclass
class Sender:
    """Open a connection for each message, or use one again."""

    port: int
    clients: list[Client] = field(default_factory=list)

    async def connect(self) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        client = Client(reader, writer)
        self.clients.append(client)
        assert (await client.reply()).startswith("220 ")
        assert (await client.ask(b"EHLO sender.example")).startswith("250")
        return client

    async def begin(self, wire: bytes = BODY, *, mail: bytes = b"<>", rcpts: tuple[bytes, ...] = (RCPT,)) -> Client:
        """Everything up to the dot."""
        client = await self.connect()
        assert (await client.ask(b"MAIL FROM:" + mail)).startswith("250")
        for rcpt in rcpts:
            assert (await client.ask(b"RCPT TO:" + rcpt)).startswith("250")
        assert (await client.ask(b"DATA")).startswith("354")
        await client.say(wire + b".\r\n")
        return client

    async def send(self, wire: bytes = BODY, *, mail: bytes = b"<>", rcpts: tuple[bytes, ...] = (RCPT,)) -> str:
        """One message on a connection of its own; the reply to its dot."""
        client = await self.begin(wire, mail=mail, rcpts=rcpts)
        reply = await client.reply()
        await client.ask(b"QUIT")
        return reply


@dataclass
class Tap:
    """A running tap. `records` is what its journal holds, durable, oldest first."""

    server: ProxyServer
    delivery: Delivery
    journal: JournalWriter
    sender: Sender
    path: Path

    async def send(self, wire: bytes = BODY, *, mail: bytes = b"<>", rcpts: tuple[bytes, ...] = (RCPT,)) -> str:
        return await self.sender.send(wire, mail=mail, rcpts=rcpts)

    def records(self) -> list[Summary]:
        return list(ls(self.path / "journal"))

    def fates(self, index: int = 0) -> list[str]:
        records = self.records()
        return [str(fate) for fate in records[index].fates] if len(records) > index else []

    def answered(self, index: int = 0) -> int | None:
        records = self.records()
        return records[index].answered if len(records) > index else None

    async def until(self, condition: Callable[[], bool]) -> None:
        await until(condition)


@asynccontextmanager
async def tapping(
    path: Path, *handlers: Handler | str, files: Files | None = None, **options: Any
) -> AsyncIterator[Tap]:
    """A tap in front of `handlers` (running ones, or "host:port"); `options` as in `settings`."""
    hosts = tuple(handler if isinstance(handler, str) else handler.host for handler in handlers)
    chosen = settings(path, hosts, **options)
    journal = await JournalWriter.open(chosen.journal, files=files)
    delivery = Delivery(chosen, journal)
    server = ProxyServer(chosen, deliver=delivery)
    try:
        await server.start()
        sender = Sender(int(server.endpoints()[0].rpartition(":")[2]))
        try:
            yield Tap(server, delivery, journal, sender, path)
        finally:
            for client in sender.clients:
                await client.close()
    finally:
        await server.stop()
        await journal.close()


def incoming(wire: bytes = BODY, **fields: Any) -> Incoming:
    """A message as a session hands it over."""
    values = {
        "peer": "192.0.2.7:4321",
        "helo": b"sender.example",
        "tls": "",
        "mail_arg": b"<>",
        "rcpt_args": (RCPT,),
        "wire": wire,
        "smtputf8": False,
        "received_ns": 1_700_000_000_000_000_000,
    }
    return Incoming(**{**values, **fields})


def unique(text: str = "") -> bytes:
    """A body like no other."""
    return f"Subject: {text} {new_id()}\r\n\r\nhello\r\n".encode()


__all__ = ["BODY", "RCPT", "TIMEOUT_S", "Sender", "Tap", "incoming", "settings", "tapping", "unique", "until"]
