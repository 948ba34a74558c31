"""A filer killed by SIGKILL at every step of filing, and at random: each message is there once, or not yet."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.journal.records import unstuffed
from store.filer import Filer, FilingLoop
from tests.support.store import bounce, contents, journal, make_entry, run_until_idle, settings_for, wait_until

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
    loop = FilingLoop(settings)
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
    filer = Filer(settings)
    await filer.start()
    wait_until(lambda: filer.status()["next_expiry_s"] > 0 and filer.status()["lag_s"] == 0)
    await filer.stop()
    loop = FilingLoop(settings)
    run_until_idle(loop)
    assert contents(loop.quarantine) == {entry.id: unstuffed(entry.wire) for entry in entries}
    loop.close()
