"""A filer killed by SIGKILL at every step of filing, and at random: each message is there once, or not yet."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proxy.journal.records import unstuffed
from store.accounts import Accounts
from store.filer import Filer
from store.imap.roles import FlagChange
from store.mailboxes import Mailboxes
from store.quarantine import Quarantine
from store.settings import DAY_S
from tests.support.store import (
    bounce,
    contents,
    file_all,
    filing_loop,
    journal,
    lasting_workers,
    make_entry,
    run_until_idle,
    settings_for,
    wait_until,
)

POINTS = ["segment_appended", "segment_synced", "index_committed", "published"]


def start(state_dir: Path, point: str, number: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.support.filer_process", str(state_dir), point, str(number)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("point", POINTS)
async def test_killed_while_filing(tmp_path: Path, point: str) -> None:
    settings = settings_for(tmp_path)
    entries = [make_entry(bounce(b"u%d@example.org" % n) * (n % 3 + 1)) for n in range(12)]
    await journal(settings.journal_dir, entries)
    for number in (1, 2):
        assert start(tmp_path, point, number).wait() == -signal.SIGKILL
    loop = filing_loop(settings)
    run_until_idle(loop)
    assert contents(loop.quarantine) == {entry.id: unstuffed(entry.wire) for entry in entries}
    loop.request_expiry(force=True)
    run_until_idle(loop)  # sweeps
    with loop.quarantine.index.read() as connection:
        known = {path for (path,) in connection.exec_driver_sql("SELECT path FROM segments")}
    present = {f"{p.parent.name}/{p.name}" for p in (tmp_path / "quarantine").rglob("*.seg")}
    assert present == known
    assert contents(loop.quarantine).keys() == {entry.id for entry in entries}
    loop.close()


async def test_killed_at_any_time(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    entries = [make_entry(bounce(b"u%d@example.org" % n)) for n in range(300)]
    await journal(settings.journal_dir, entries)
    dice = random.Random(7)
    for _ in range(5):
        process = start(tmp_path, "never", 1)
        await asyncio.sleep(dice.uniform(0.5, 2.0))
        process.kill()
        process.wait()
    filer = Filer(settings, workers=lasting_workers())
    await filer.start()
    wait_until(lambda: filer.status()["next_expiry_s"] > 0 and filer.status()["lag_s"] == 0)
    await filer.stop()
    loop = filing_loop(settings)
    run_until_idle(loop)
    assert contents(loop.quarantine) == {entry.id: unstuffed(entry.wire) for entry in entries}
    loop.close()


@pytest.mark.parametrize("point", ["entries_expired", "segment_row_deleted", "carried", "segment_synced"])
async def test_killed_while_expiring(tmp_path: Path, point: str) -> None:
    settings = settings_for(tmp_path)
    old_ns = time.time_ns() - 40 * DAY_S * 10**9
    old = [make_entry(bounce() + os.urandom(500).hex().encode() + b"\r\n", received_ns=old_ns) for _ in range(40)]
    new = [make_entry() for _ in range(3)]
    quarantine = Quarantine.open(settings)
    file_all(quarantine, *old, *new)
    Accounts(quarantine.index).add("ann", "x", "admin")
    mailboxes = Mailboxes(quarantine)
    mailboxes.store("Bounces/Hard", "ann", [7, 21], FlagChange(flagged=True))
    shown = dict(mailboxes.shown("Bounces/Hard", [7, 21, 41]))
    kept = {entry.id: unstuffed(entry.wire) for entry in (old[6], old[20], *new)}
    assert start(tmp_path, point, 1).wait() == -signal.SIGKILL
    for ident, original in kept.items():
        assert quarantine.original(ident) == original
    loop = filing_loop(settings)
    run_until_idle(loop)
    assert contents(quarantine) == kept
    assert dict(mailboxes.shown("Bounces/Hard", [7, 21, 41])) == shown
    with quarantine.index.read() as connection:
        known = {path for (path,) in connection.exec_driver_sql("SELECT path FROM segments")}
    assert {f"{p.parent.name}/{p.name}" for p in (tmp_path / "quarantine").rglob("*.seg")} == known
    loop.close()
    quarantine.close()
