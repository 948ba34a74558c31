"""Kill -9 of proxy, filer and IMAP server at random under load: nothing acknowledged is ever lost (law 2).

Senders behave as mail systems do: what was not acknowledged is sent again, byte for byte. Each message is unique, so
at the end every acknowledged one must be at the handler at least once (more often is a duplicate, counted) and in the
quarantine exactly once. 6 kills by default; the measured run has 60:
BOUNCETAP_KILL_ROUNDS=60 make test PYTEST_ARGS="-s tests/e2e/test_durability.py"
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from typing import Any

import pytest

from tests.support.smtp import Mail, Session
from tests.support.tap import Tap, wait_for

ROUNDS = int(os.environ.get("BOUNCETAP_KILL_ROUNDS", "6"))
SESSIONS = 50
MESSAGES_PER_CONNECTION = 20


class Load:
    """SESSIONS senders that keep sending until told to stop; every one finishes the message it has begun."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap
        self._stopping = False
        self.acknowledged: list[Mail] = []
        self.resent = 0

    async def run(self) -> None:
        await asyncio.gather(*(self._sender(number) for number in range(SESSIONS)))

    def stop(self) -> None:
        self._stopping = True

    async def _sender(self, number: int) -> None:
        count = 0
        session: Session | None = None
        while not self._stopping:
            body = random.Random(f"{number}.{count}").randbytes(random.randrange(10, 3000)).hex().encode()
            mail = Mail(b"Subject: %d.%d\r\n\r\n%s\r\n" % (number, count, body))
            while True:
                try:
                    session = session or await Session(self._tap.smtp_port).open()
                    reply = await session.send(mail)
                except (OSError, EOFError):
                    if session is not None:
                        session.close()
                    session = None
                    self.resent += 1
                    await asyncio.sleep(0.05)
                    continue
                if reply.startswith(b"250"):
                    self.acknowledged.append(mail)
                    break
                self.resent += 1
                await asyncio.sleep(0.05)
            count += 1
            if count % MESSAGES_PER_CONNECTION == 0 and session is not None:
                session.close()
                session = None
        if session is not None:
            session.close()


async def kill_at_random(tap: Tap, load: Load, kills: Counter[str]) -> None:
    chooser = random.Random(2026)
    for _ in range(ROUNDS):
        await asyncio.sleep(chooser.uniform(0.05, 0.8))
        part = chooser.choice(["proxy", "proxy", "filer", "imap"])
        kills[part] += 1
        await asyncio.to_thread(tap.kill, part)
        tap.spawn(part)
        if part == "proxy" or chooser.random() < 0.5:
            await asyncio.to_thread(tap.await_part, part)
    for part in ("proxy", "filer", "imap"):
        await asyncio.to_thread(tap.await_part, part)
    load.stop()


async def under_load(tap: Tap, kills: Counter[str]) -> Load:
    load = Load(tap)
    await asyncio.gather(load.run(), kill_at_random(tap, load, kills))
    return load


def events(tap: Tap, name: str) -> int:
    return tap.log("proxy").count(f'"event": "{name}"')


@pytest.mark.timeout(3600)
def test_kill_minus_nine_at_random(make_tap: Any, handler: Any) -> None:
    tap = make_tap(extra='[proxy.limits]\nconnections_per_address = 500\nrate_per_address = 100000\n'
                         '[journal]\nreserve = "10MB"\n')  # fmt: skip
    tap.start("proxy", "filer", "imap")
    kills: Counter[str] = Counter()
    load = asyncio.run(under_load(tap, kills))
    wanted = {mail.wire_sha256 for mail in load.acknowledged}
    assert len(wanted) == len(load.acknowledged)
    wait_for(lambda: tap.status("proxy")["delivery"]["spool"]["messages"] == 0, "the spool to drain", 120)
    at_handler = Counter(row["sha256"] for row in handler.accepted())
    missing = wanted - at_handler.keys()
    duplicates = sum(count - 1 for count in at_handler.values())
    wait_for(lambda: len(tap.exported()) >= len(wanted), "the filer to catch up", 600)
    in_quarantine = Counter(row["sha256"] for row in tap.exported())
    lost = [mail for mail in load.acknowledged if in_quarantine[mail.sha256] == 0]
    doubled = [mail for mail in load.acknowledged if in_quarantine[mail.sha256] > 1]
    print(f"\n{dict(kills)} killed, {len(wanted)} acknowledged, {load.resent} attempts that got no 250")
    print(f"at the handler: {len(missing)} missing, {duplicates} duplicates")
    print(f"replayed: {events(tap, 'replayed')}, resends recognised: {events(tap, 'duplicate_suppressed')}")
    print(f"in the quarantine: {len(lost)} missing, {len(doubled)} doubled")
    assert not missing
    assert not lost
    assert not doubled
    assert duplicates <= SESSIONS * kills["proxy"], "only what was under way when it died can come twice"
