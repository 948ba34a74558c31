"""A tap's front line on a real port with a `Deliver` that only remembers, and a client that speaks in bytes."""

from __future__ import annotations

import asyncio
import functools
import inspect
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

from proxy.server import ProxyServer
from proxy.settings import Legacy, Limits, Listen, ProxySettings
from proxy.types import Capabilities, Incoming, Reply

TIMEOUT_S = 10.0
ENVELOPE = b"EHLO client.example\r\nMAIL FROM:<>\r\nRCPT TO:<b@bounces.example>\r\nDATA\r\n"


@dataclass
class Sink:
    """Answers 250 (or as told) and remembers what it got."""

    reply: Reply = field(default_factory=lambda: Reply(250, (b"2.0.0 queued as 1",)))
    offer: Capabilities = field(default_factory=lambda: Capabilities(smtputf8=True, dsn=True, size_bytes=None))
    fault: Exception | None = None
    gate: asyncio.Event | None = None  # delivering waits for it
    messages: list[Incoming] = field(default_factory=list)
    marks: list[tuple[str, int]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    stopped: bool = False

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        self.stopped = True

    def status(self) -> dict[str, Any]:
        return {"messages": len(self.messages)}

    async def command(self, name: str, args: dict[str, Any]) -> dict[str, Any]:
        self.commands.append(name)
        return {}

    async def deliver(self, message: Incoming) -> tuple[Reply, str]:
        self.messages.append(message)
        if self.gate is not None:
            await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        if message.refused:
            return Reply(int(message.refused[:3]), (message.refused[4:].encode(),)), f"id{len(self.messages)}"
        return self.reply, f"id{len(self.messages)}"

    def answered(self, id: str, code: int) -> None:  # noqa: A002  as in the protocol
        self.marks.append((id, code))

    def unanswered(self, id: str) -> None:  # noqa: A002  as in the protocol
        self.gone.append(id)

    def capabilities(self) -> Capabilities:
        return self.offer


@dataclass
class Client:
    """Raw bytes out, lines in."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def line(self) -> str:
        raw = await asyncio.wait_for(self.reader.readuntil(b"\r\n"), TIMEOUT_S)
        return raw[:-2].decode()

    async def reply(self) -> str:
        """One whole reply, its lines joined by newlines."""
        lines = [await self.line()]
        while lines[-1][3:4] == "-":
            lines.append(await self.line())
        return "\n".join(lines)

    async def ask(self, command: bytes) -> str:
        await self.say(command + b"\r\n")
        return await self.reply()

    async def closed(self) -> bool:
        """Waits until the server has closed; False if it said something more before."""
        try:
            return await asyncio.wait_for(self.reader.read(), TIMEOUT_S) == b""
        except ConnectionError:
            return True

    async def start_tls(self, context: ssl.SSLContext) -> None:
        await self.writer.start_tls(context, server_hostname="localhost")

    async def close(self) -> None:
        self.writer.close()


@dataclass
class Tap:
    server: ProxyServer
    sink: Sink
    clients: list[Client] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.server.endpoints()[0].rpartition(":")[2])

    async def connect(self, *, greeted: bool = True, host: str = "127.0.0.1") -> Client:
        reader, writer = await asyncio.open_connection(host, self.port, limit=1 << 20)
        client = Client(reader, writer)
        self.clients.append(client)
        if greeted:
            assert (await client.reply()).startswith("220 ")
        return client


def settings(*, limits: Limits | None = None, hosts: tuple[str, ...] = (), **listen: Any) -> ProxySettings:
    listen = {"listen": ("127.0.0.1:0",), "hostname": "tap.example", "domains": ("bounces.example",)} | listen
    return ProxySettings(
        listen=Listen(limits=limits or Limits(rate_per_address=100_000), **listen), legacy=Legacy(hosts=hosts)
    )


@asynccontextmanager
async def running(sink: Sink | None = None, **options: Any) -> AsyncIterator[Tap]:
    sink = sink or Sink()
    tap = Tap(ProxyServer(settings(**{"drain_timeout_s": 0.2, **options}), deliver=sink), sink)
    await tap.server.start()
    try:
        yield tap
    finally:
        for client in tap.clients:
            await client.close()
        await tap.server.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds; fail after a generous while."""
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110  conditions of many kinds
            await asyncio.sleep(0.005)


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Any:
    """Makes an async test into two: on asyncio's own loop, and on uvloop, which production runs on."""

    @functools.wraps(test)
    def on_one(loop_runner: Callable[[Coroutine[Any, Any, None]], None], **fixtures: Any) -> None:
        loop_runner(test(**fixtures))

    own = inspect.signature(test).parameters.values()
    extra = inspect.Parameter("loop_runner", inspect.Parameter.KEYWORD_ONLY)
    on_one.__signature__ = inspect.Signature([*own, extra])  # type: ignore[attr-defined]
    return pytest.mark.parametrize("loop_runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])(on_one)
