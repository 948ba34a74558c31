"""A filled quarantine, a server on it, and clients that are closed in time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from store.imap.server import ImapServer
from tests.support.imap import Client, Filled, quarantine, serve
from tests.support.store import bounce

Connect = Callable[..., Awaitable[Client]]


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Filled]:
    """Five hard bounces."""
    made = quarantine(tmp_path)
    made.file(*(bounce(b"user%d@example.org" % n) for n in range(1, 6)))
    yield made
    made.close()


@pytest.fixture
async def server(filled: Filled) -> AsyncIterator[ImapServer]:
    running = await serve(filled.settings)
    yield running
    await running.stop()


@pytest.fixture
async def connect(server: ImapServer) -> AsyncIterator[Connect]:
    """Gives clients: with a user's name one that is logged in, else one that is not."""
    clients: list[Client] = []

    async def one(user: str = "") -> Client:
        clients.append(await Client.connect(server, user))
        return clients[-1]

    yield one
    for client in clients:
        await client.close()
