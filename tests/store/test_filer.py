"""The filer over a real journal: everything decided is filed once, whatever the messages, the disk or the index do."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from proxy.journal import Entry, Fate, JournalWriter, Mark
from proxy.journal.records import unstuffed
from proxy.journal.stream import FILED, list_segments, list_streams, read_cursor
from proxy.settings import JournalSettings
from store import filing_loop as filing_loop_module
from store import pipeline
from store.accounts import Accounts
from store.errors import CommandError, StartError
from store.filer import Filer
from store.filing_loop import FilingLoop
from store.imap.roles import FlagChange
from store.mailboxes import Mailboxes
from store.outcomes import Outcomes
from store.prepare import Job, Prepared
from store.quarantine import Quarantine
from store.schema import messages, stream_cursors
from store.settings import StoreSettings
from store.workers import Worker, Workers
from tests.support.journal import FaultyFiles, bad_disk
from tests.support.store import (
    bounce,
    contents,
    filing_loop,
    journal,
    lasting_workers,
    make_entry,
    run_until_idle,
    settings_for,
    wait_until,
)

HARD = "Bounces/Hard"


def originals(entries: list[Entry]) -> dict[str, bytes]:
    return {entry.id: unstuffed(entry.wire) for entry in entries}


def filed(settings: StoreSettings) -> dict[str, bytes]:
    quarantine = Quarantine.open(settings)
    try:
        return contents(quarantine)
    finally:
        quarantine.close()


async def test_what_is_decided_is_filed_once(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, batch_messages=7)
    entries = [make_entry(bounce(b"u%d@example.org" % n)) for n in range(30)]
    refused = make_entry(b"a\r\n.\nb\r\n", refused="554 5.6.11 no")
    await journal(settings.journal_dir, [*entries, refused])
    filer = Filer(settings, workers=lasting_workers())
    await filer.start()
    wait_until(lambda: filer.status()["filed"] == 31)
    assert filer.status()["last_error"] == ""
    with pytest.raises(StartError, match="another filer"):
        await Filer(settings, workers=lasting_workers()).start()
    with pytest.raises(CommandError):
        await filer.command("dance", {})
    await filer.stop()
    await filer.stop()
    again = Filer(settings, workers=lasting_workers())
    await again.start()
    more = [make_entry(b"hello\r\n")]
    await journal(settings.journal_dir, more)
    wait_until(lambda: again.status()["filed"] == 1)
    await again.stop()
    assert filed(settings) == originals([*entries, refused, *more])
    for stream in list_streams(settings.journal_dir):
        assert read_cursor(settings.journal_dir / stream / FILED) > 0


async def test_a_message_waits_for_the_senders_answer(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    waiting, spooled, passed, dead = (make_entry(bounce(), rcpts=2) for _ in range(4))
    loop = filing_loop(settings)
    writer = await JournalWriter.open(JournalSettings(dir=settings.journal_dir, reserve_bytes=0))
    for entry in (waiting, spooled, passed, dead):
        await writer.append_entry(entry)
    run_until_idle(loop)
    assert loop.undecided == 4
    for entry, code in ((spooled, 250), (passed, 451), (dead, 250)):
        writer.append_mark(Mark(entry.id, 1, answered=code))
    await writer.flush()
    run_until_idle(loop)
    assert loop.undecided == 1
    assert contents(loop.quarantine).keys() == {spooled.id, dead.id}
    mailboxes = Mailboxes(loop.quarantine)
    before = mailboxes.folder(HARD).modseq
    writer.append_mark(Mark(dead.id, 2, (0,), Fate.FORWARDED, 250, "ok", "h:25"))
    writer.append_mark(Mark(dead.id, 2, (1,), Fate.DEAD, 550, "5.1.1 no", "h:25"))
    writer.append_mark(Mark(spooled.id, 2, (0, 1), Fate.FORWARDED, 250, "ok", "h:25"))
    await writer.flush()
    run_until_idle(loop)
    changes = mailboxes.changes(HARD, before)
    assert changes is not None
    keywords = {entry[0]: entry[4].split() for entry in changes.entries}
    assert keywords == {1: ["$Hard", "$bad_mailbox"], 2: ["$Dead", "$Hard", "$bad_mailbox"]}
    with loop.quarantine.index.read() as connection:
        query = sa.select(messages.c.fate, messages.c.legacy).where(messages.c.id == dead.id)
        assert connection.execute(query).one() == ("dead", "550 5.1.1 no")
        assert connection.execute(sa.select(stream_cursors.c.ahead)).scalar_one() != "[]"
    # The cursor stays at the one that waits; what is past it is not filed again, not even once expunged.
    admin_expunges(loop.quarantine, mailboxes)
    loop.close()
    loop = filing_loop(settings)
    run_until_idle(loop)
    assert contents(loop.quarantine) == {}
    writer.append_mark(Mark(waiting.id, 1, answered=0))
    await writer.flush()
    run_until_idle(loop)
    assert contents(loop.quarantine).keys() == {waiting.id}
    await writer.close()
    loop.close()


def admin_expunges(quarantine: Quarantine, mailboxes: Mailboxes) -> None:
    Accounts(quarantine.index).add("root", "x", "admin")
    mailboxes.store(HARD, "root", [1, 2], FlagChange(set_bits=4))
    assert mailboxes.expunge(HARD, "root") == [1, 2]


async def test_bodies_beyond_the_bound_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.tail.BODIES_KEPT_BYTES", 1000)
    settings = settings_for(tmp_path)
    entries = [make_entry(b"x" * 600 + b"\r\n") for _ in range(4)]
    await journal(settings.journal_dir, entries, *(Mark(e.id, 1, answered=250) for e in entries), decide=False)
    loop = filing_loop(settings)
    run_until_idle(loop)
    assert contents(loop.quarantine) == originals(entries)
    loop.close()


async def test_a_hostile_message_costs_no_other(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    wires = [bounce(), b"CRASH\r\n", bounce(), b"HANG\r\n", b"BLOAT\r\n", bounce(), b"ONCE\r\n", b"EXIT\r\n"]
    entries = [make_entry(wire) for wire in wires]
    await journal(settings.journal_dir, entries)
    workers = Workers(2, lambda: Worker("tests.support.deadly_prepare:prepare", timeout_s=1.0))
    loop = FilingLoop(settings, workers=workers)
    run_until_idle(loop)
    assert contents(loop.quarantine) == originals(entries)
    with loop.quarantine.index.read() as connection:
        query = sa.select(messages.c.id).where(messages.c.unparsable)
        unparsable = {ident for (ident,) in connection.execute(query)}
    assert unparsable == {entries[n].id for n in (1, 3, 4, 7)}
    shown = dict(Mailboxes(loop.quarantine).shown("Other", range(1, 10)))
    assert any(text.endswith(b"CRASH\r\n") and b"X-Bouncetap-Kind: other" in text for text in shown.values())
    loop.close()


async def test_a_worker_that_cannot_start_is_no_messages_fault(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    entry = make_entry()
    await journal(settings.journal_dir, [entry])
    filer = Filer(settings, workers=Workers(1, lambda: Worker("store.nowhere:prepare")))
    await filer.start()
    wait_until(lambda: "WorkerUnusable" in filer.status()["last_error"])
    await filer.stop()
    assert filed(settings) == {}
    loop = filing_loop(settings)
    run_until_idle(loop)
    assert contents(loop.quarantine) == originals([entry])
    loop.close()


@pytest.mark.parametrize("call", ["create", "pwritev", "fdatasync"])
async def test_a_failing_disk_delays_and_loses_nothing(tmp_path: Path, call: str) -> None:
    settings = settings_for(tmp_path)
    entries = [make_entry() for _ in range(5)]
    await journal(settings.journal_dir, entries)
    files = FaultyFiles()
    files.faults[call] = [errno.ENOSPC, errno.EIO]
    filer = Filer(settings, files=files, workers=lasting_workers())
    await filer.start()
    wait_until(lambda: filer.status()["filed"] == 5)
    assert "OSError" in filer.status()["last_error"]
    removed = await filer.command("expire", {"force": True})  # sweeps what the failures left
    assert removed == {"removed": 0}
    await filer.stop()
    assert filed(settings) == originals(entries)
    assert len(list((tmp_path / "quarantine").rglob("*.seg"))) == 1


async def test_a_bad_sector_is_passed_over_once_it_stays_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails for a while costs nothing; a page that stays unreadable does not hold up all behind it."""
    settings = settings_for(tmp_path)
    entries = [make_entry(bounce() + b"x" * 3000 + b"\r\n") for _ in range(6)]
    await journal(settings.journal_dir, entries)
    (segment,) = list_segments(settings.journal_dir / list_streams(settings.journal_dir)[0])
    bad_disk(monkeypatch, segment.path, 4096)
    loop = filing_loop(settings)
    try:
        for _ in range(3):
            with pytest.raises(OSError, match="Input/output"):
                run_until_idle(loop)
        assert filed(settings) == {}
        monkeypatch.setattr(pipeline, "UNREADABLE_AFTER_S", 0.0)
        run_until_idle(loop)
        kept = filed(settings)
        assert kept.items() < originals(entries).items()
        assert {entry.id for entry in entries[3:]} <= kept.keys()
        assert loop.damage
    finally:
        loop.close()


async def test_filing_waits_for_disk_space(tmp_path: Path) -> None:
    free = [10]
    settings = settings_for(tmp_path, reserve_bytes=1000)
    entries = [make_entry() for _ in range(5)]
    await journal(settings.journal_dir, entries)
    filer = Filer(settings, free_bytes=lambda _path: free[0], workers=lasting_workers())
    await filer.start()
    wait_until(lambda: filer.status()["waiting_for_disk"])
    assert filer.status()["filed"] == 0
    free[0] = 10**9
    wait_until(lambda: filer.status()["filed"] == 5)
    assert not filer.status()["waiting_for_disk"]
    await filer.stop()
    assert filed(settings) == originals(entries)


async def test_filing_goes_on_where_the_journal_is_what_fills_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the journal could never shrink again, and all that comes would go untapped."""
    monkeypatch.setattr(filing_loop_module, "ROOM_BACKLOG_BYTES", 1)
    settings = settings_for(tmp_path, reserve_bytes=10**9, batch_messages=4)
    settled, later = [make_entry() for _ in range(60)], [make_entry() for _ in range(60)]
    await journal(settings.journal_dir, settled)
    loop = filing_loop(settings, free_bytes=lambda _path: 10**8)
    try:
        loop.backlog_bytes = 10**6
        assert loop.step()
        assert 0 < loop.filed <= 4
        loop._gauges_at = time.monotonic() + 3600  # the backlog stays as it is told
        loop.backlog_bytes = 0
        assert not loop.step()
        assert loop.waiting_for_disk
    finally:
        loop.close()
    assert len(filed(settings)) == loop.filed
    other = settings_for(tmp_path / "open", reserve_bytes=10**9)
    await journal(other.journal_dir, later, *(Mark(entry.id, 1, answered=250) for entry in later), decide=False)
    loop = filing_loop(other, free_bytes=lambda _path: 10**8)
    try:
        loop.backlog_bytes = 10**6
        assert not loop.step()  # the journal could let go of none: the handler has none of these
        assert loop.waiting_for_disk
    finally:
        loop.close()


async def test_a_stopped_worker_does_not_stop_the_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.filer.STOP_TIMEOUT_S", 2.0)
    settings = settings_for(tmp_path)
    workers = Workers(1, lambda: Worker("tests.support.deadly_prepare:prepare"))
    await journal(settings.journal_dir, [make_entry(b"HANG\r\n")])
    filer = Filer(settings, workers=workers)
    await filer.start()
    wait_until(lambda: workers.all[0].pid is not None)
    async with asyncio.timeout(60):
        await filer.stop()
    assert filed(settings) == {}


def test_marks_boil_down() -> None:
    def mark(fate: Fate, *rcpts: int, code: int = 250) -> Mark:
        return Mark("x", 1, rcpts, fate, code, "text", "h:25")

    outcomes = Outcomes(3)
    assert (outcomes.fate, outcomes.legacy, outcomes.keywords) == ("open", "pending", frozenset({"$Spooled"}))
    outcomes = outcomes.after(mark(Fate.FORWARDED, 0, 1, 2, 9)).after(mark(Fate.OPEN, 1, code=451))
    assert outcomes.fate == "forwarded"  # nothing undoes a final fate
    assert outcomes.keywords == frozenset()
    outcomes = outcomes.after(mark(Fate.DEAD, 2, code=550))
    assert (outcomes.fate, outcomes.legacy, outcomes.keywords) == ("dead", "550 text", frozenset({"$Dead"}))
    rejected = Outcomes(2).after(Mark("x", 1, answered=554))
    assert (rejected.fate, rejected.keywords, rejected.passed) == ("rejected", frozenset({"$Rejected"}), False)


async def test_a_full_index_delays_and_loses_nothing(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    entries = [make_entry(bounce(b"u%d@example.org" % n)) for n in range(300)]
    await journal(settings.journal_dir, entries)
    loop = filing_loop(settings)
    full = [True]

    def limit(connection: Any, _record: Any, _proxy: Any) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 3 if full[0] else 2**30}")

    sa.event.listen(loop.quarantine.index.engine, "checkout", limit)
    failures = 0
    while failures < 3:
        try:
            loop.step()
        except sa.exc.SQLAlchemyError:
            failures += 1
    full[0] = False
    run_until_idle(loop)
    assert contents(loop.quarantine) == originals(entries)
    loop.close()


async def test_a_worker_for_want_of_descriptors_is_made_later(tmp_path: Path) -> None:
    class Exhausted(Worker):
        failures = 2

        def prepare(self, jobs: Sequence[Job]) -> list[Prepared]:
            if self.failures:
                self.failures -= 1
                raise OSError(errno.EMFILE, "too many open files")
            return super().prepare(jobs)

    settings = settings_for(tmp_path)
    entry = make_entry()
    await journal(settings.journal_dir, [entry])
    filer = Filer(settings, workers=Workers(1, Exhausted))
    await filer.start()
    wait_until(lambda: filer.status()["filed"] == 1)
    await filer.stop()
    assert filed(settings) == originals([entry])


async def test_a_cursor_that_could_not_be_published_is_published_later(tmp_path: Path) -> None:
    """Else a journal that has filled its disk would wait for ever to hear that it may be deleted."""
    settings = settings_for(tmp_path)
    await journal(settings.journal_dir, [make_entry()])
    (stream,) = list_streams(settings.journal_dir)
    cursor = settings.journal_dir / stream / FILED
    cursor.mkdir()  # no write of a file succeeds here
    filer = Filer(settings, workers=lasting_workers())
    await filer.start()
    wait_until(lambda: filer.status()["filed"] == 1 and filer.status()["last_error"])
    assert read_cursor(cursor) == 0
    cursor.rmdir()
    wait_until(lambda: read_cursor(cursor))
    await filer.stop()


async def test_a_locked_index_is_not_paid_for_with_disk_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.index.BUSY_TIMEOUT_S", 0.05)
    settings = settings_for(tmp_path)
    entry = make_entry()
    filer = filing_loop(settings)
    await journal(settings.journal_dir, [entry])
    filer.next_expiry = time.monotonic() + 3600  # it would meet the lock, too
    with contextlib.closing(sqlite3.connect(tmp_path / "index.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(5):
            with pytest.raises(OperationalError, match="locked"):
                filer.step()
        assert len(list((tmp_path / "quarantine").rglob("*.seg"))) == 1
    run_until_idle(filer)
    assert contents(filer.quarantine) == originals([entry])
    filer.close()
