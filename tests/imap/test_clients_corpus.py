"""Curl, mbsync and mutt against a quarantine filled from the corpus: list, read, search, flag, expunge.

The same for imaplib and aioimaplib, message by message: `test_exactness.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.journal.records import unstuffed
from store.annotate import begins_with_field
from store.imap.server import ImapServer
from tests.imap.test_clients import PLAIN_PASSWORD, _port, _run, mbsync_configuration, mutt
from tests.imap.test_exactness import everything, filled_with
from tests.support.imap import Client

pytestmark = [pytest.mark.corpus, pytest.mark.slow, pytest.mark.timeout(300)]
HARD = "Bounces%2FHard"
_TUID = re.compile(rb"X-TUID: [^\n]*\n")  # mbsync's own mark


Filled = tuple[ImapServer, Counter[bytes]]


@pytest.fixture
async def filled(tmp_path: Path, corpus: Path) -> AsyncIterator[Filled]:
    messages = everything(corpus)
    async with filled_with(tmp_path / "state", messages) as (server, _):
        yield server, Counter(unstuffed(one).replace(b"\0", b"\x80").replace(b"\r", b"") for one in messages)


def _original(stored: bytes) -> bytes:
    """What follows the annotation in a message that mbsync has stored with line ends of its own."""
    _, _, rest = _TUID.sub(b"", stored, count=1).replace(b"\r", b"").partition(b"\nX-Bouncetap-Id: ")
    original = rest.partition(b"\n")[2]
    return original if begins_with_field(original) else original[1:]


async def _hard(server: ImapServer) -> int:
    client = await Client.connect(server, "rita")
    (told,) = await client.ok(b"STATUS Bounces/Hard (MESSAGES)")
    await client.close()
    return int(told.split()[-1].rstrip(b")"))


@pytest.mark.system("curl")
async def test_curl(filled: Filled) -> None:
    server, _ = filled
    url = f"imap://127.0.0.1:{_port(server)}"
    login = ("curl", "-sS", "--max-time", "60", "-u", f"anna:{PLAIN_PASSWORD}")
    count = await _hard(server)
    assert count > 100
    assert "Bounces/Hard" in await _run(*login, f"{url}/")
    found = (await _run(*login, f"{url}/{HARD}?HEADER%20X-Bouncetap-Kind%20bounce")).split()
    assert len(found) == count + 2
    assert "X-Bouncetap-Id: " in await _run(*login, f"{url}/{HARD};MAILINDEX={count}")
    await _run(*login, f"{url}/{HARD}", "-X", "UID STORE 1,3 +FLAGS (\\Deleted)")
    await _run(*login, f"{url}/{HARD}", "-X", "UID STORE 3 +FLAGS (\\Flagged)")
    told = await _run(*login, f"{url}/{HARD}", "-X", "EXPUNGE")
    assert re.findall(r"\* (\d+) EXPUNGE", told) == ["1"], "the flagged one is held"
    assert await _hard(server) == count - 1


@pytest.mark.system("mbsync")
async def test_mbsync(filled: Filled, tmp_path: Path) -> None:
    server, originals = filled
    count = await _hard(server)
    configuration = mbsync_configuration(tmp_path, _port(server), "*")
    await _run("mbsync", "-c", str(configuration), "-a")
    assert Counter(_original(path.read_bytes()) for path in (tmp_path / "mail").rglob("new/*")) == originals
    hard = tmp_path / "mail/Bounces/Hard"
    first = next(iter(sorted((hard / "new").iterdir())))
    first.rename(hard / "cur" / (first.name.split(":")[0] + ":2,T"))
    await _run("mbsync", "-c", str(configuration), "-a")
    assert await _hard(server) == count - 1


@pytest.mark.system("mutt", "tmux")
async def test_mutt(filled: Filled, tmp_path: Path) -> None:
    server, _ = filled
    count = await _hard(server)
    async with mutt(tmp_path, _port(server)) as (keys, until):
        await until(f"Msgs:{count}")
        await keys("1", "Enter", "Enter")
        await until("X-Bouncetap-")
        await keys("q")
        await until(f"Msgs:{count}")
        await keys("2", "Enter", "F", "3", "Enter", "d", "$")
        await until(f"Msgs:{count - 1}")
    client = await Client.connect(server, "rita")
    await client.ok(b"SELECT Bounces/Hard")
    assert await client.ok(b"UID SEARCH FLAGGED") == [b"* SEARCH 2"]
    await client.close()
