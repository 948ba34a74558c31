"""The writer on a disk that works: durability, marks, bounds, and looking in."""

from __future__ import annotations

import asyncio
import gc
import shutil
from pathlib import Path

import pytest

from proxy.journal.audit import find, ls, verify
from proxy.journal.errors import JournalError
from proxy.journal.files import Files
from proxy.journal.reader import JournalReader
from proxy.journal.records import Entry, Fate, Mark
from proxy.journal.stream import list_segments, list_streams
from proxy.journal.writer import JournalWriter
from tests.support.journal import (
    ShortFiles,
    answered,
    file_all,
    make_entry,
    settings_for,
    settle,
)
from tests.support.powerloss import RecordingFiles


async def test_durable_once_the_future_resolves(tmp_path: Path) -> None:
    writer = await JournalWriter.open(settings_for(tmp_path))
    entries = [make_entry(size, rcpts=3) for size in (0, 1, 200, 70_000, 300_000)]  # two outgrow a segment
    lsns = [await writer.append_entry(entry) for entry in entries]
    assert lsns == sorted(lsns)
    reader = JournalReader(tmp_path)
    assert [item.record for item in reader.poll()] == entries
    for entry in entries:
        assert await writer.load(entry.id) == entry
    await writer.close()
    reader.close()


async def test_many_at_once_share_a_commit(tmp_path: Path) -> None:
    files = RecordingFiles(tmp_path)
    writer = await JournalWriter.open(settings_for(tmp_path, segment_bytes=1 << 22), files=files)
    before = len(files.log)
    await asyncio.gather(*(writer.append_entry(make_entry(500)) for _ in range(300)))
    syncs = [op for op in files.log[before:] if getattr(op, "kind", "") == "sync"]
    assert 1 <= len(syncs) <= 150
    await writer.close()


async def test_short_writes_are_finished(tmp_path: Path) -> None:
    writer = await JournalWriter.open(settings_for(tmp_path), files=ShortFiles())
    entries = [make_entry(3000) for _ in range(10)]
    await asyncio.gather(*(writer.append_entry(entry) for entry in entries))
    reader = JournalReader(tmp_path)
    assert [item.record for item in reader.poll()] == entries
    await writer.close()
    reader.close()


async def test_close_commits_what_is_pending(tmp_path: Path) -> None:
    writer = await JournalWriter.open(settings_for(tmp_path))
    futures = [writer.append_entry(make_entry()) for _ in range(50)]
    await writer.close()
    assert all(future.done() and future.exception() is None for future in futures)
    with pytest.raises(JournalError):
        await writer.append_entry(make_entry())
    with pytest.raises(JournalError):
        await writer.flush()
    await writer.housekeep()
    await writer.close()


async def test_bounds_are_kept(tmp_path: Path) -> None:
    small = await JournalWriter.open(settings_for(tmp_path, max_backlog_bytes=20_000))
    entries = [make_entry(4000) for _ in range(4)]
    for entry in entries:
        await small.append_entry(entry)
    with pytest.raises(JournalError, match="max_backlog"):
        await small.append_entry(make_entry(4000))
    await settle(small, entries)  # marks are always taken: they are what makes room again
    assert small.status()["open"] == 0
    await small.close()


class Nearly(Files):
    """A disk with so many bytes left."""

    left = 1 << 30

    def free_bytes(self, path: Path) -> int:
        return self.left


async def test_the_reserve_is_the_journals_own(tmp_path: Path) -> None:
    """Below it the filer waits; the journal goes on, to where only a last segment's worth is left for marks."""
    disk = Nearly()
    writer = await JournalWriter.open(settings_for(tmp_path, reserve_bytes=1 << 40), files=disk)
    entry = make_entry()
    await writer.append_entry(entry)
    disk.left = writer.settings.segment_bytes - 1
    await writer.flush()
    with pytest.raises(JournalError, match="disk is full"):
        await writer.append_entry(make_entry())
    assert writer.status()["failed"]
    await settle(writer, [entry])
    disk.left += 10_000
    await writer.flush()
    await writer.append_entry(make_entry())
    assert not writer.status()["failed"]
    await writer.close()


async def test_marks_are_kept_per_recipient_and_the_last_wins(tmp_path: Path) -> None:
    writer = await JournalWriter.open(settings_for(tmp_path))
    entry = make_entry(rcpts=4)
    await writer.append_entry(entry)
    writer.append_mark(Mark(entry.id, 1, (0, 1, 2, 3, 9), Fate.IN_DOUBT, 0, "", "192.0.2.1:25"))
    writer.append_mark(Mark(entry.id, 1, (0,), Fate.FORWARDED, 250, "ok", "192.0.2.2:25"))
    writer.append_mark(Mark(entry.id, 1, (1,), Fate.OPEN, 451, "later", "192.0.2.2:25"))
    await writer.append_mark(answered(entry))
    expected = (Fate.FORWARDED, Fate.OPEN, Fate.IN_DOUBT, Fate.IN_DOUBT)
    for _ in range(2):
        (found,) = list(writer.open_entries())
        assert found.fates == expected
        assert found.hosts == ("192.0.2.2:25", "192.0.2.2:25", "192.0.2.1:25", "192.0.2.1:25")
        assert found.answered == 250
        await writer.close()
        writer = await JournalWriter.open(settings_for(tmp_path))  # and by recovery just so
        await writer.adopt_orphans()
    await writer.close()


@pytest.mark.parametrize("end", ["forwarded", "rejected", "passed", "dead", "dropped"])
async def test_what_is_settled_leaves_the_ledger(tmp_path: Path, end: str) -> None:
    writer = await JournalWriter.open(settings_for(tmp_path))
    entry = make_entry(rcpts=2)
    await writer.append_entry(entry)
    if end != "passed":
        writer.append_mark(Mark(entry.id, 1, (0, 1), Fate(end), 550, "no"))
    assert writer.status()["undecided"] == 1
    await writer.append_mark(answered(entry, 451 if end == "passed" else 250))
    assert not list(writer.open_entries())
    assert writer.status()["undecided"] == writer.status()["open"] == 0
    with pytest.raises(JournalError):
        await writer.load(entry.id)
    with pytest.raises(JournalError):
        await writer.append_mark(answered(entry))
    await writer.close()
    heir = await JournalWriter.open(settings_for(tmp_path))
    assert await heir.adopt_orphans() == []
    assert heir.was_unanswered(entry.digest) is None
    await heir.close()


async def test_what_is_open_is_known_without_the_disk(tmp_path: Path) -> None:
    """A backlog of a million must not stop the loop to read a million envelopes."""
    writer = await JournalWriter.open(settings_for(tmp_path))
    entries = [make_entry() for _ in range(20)]
    for entry in entries:
        await writer.append_entry(entry)
    (segment,) = list_segments(tmp_path / list_streams(tmp_path)[0])
    segment.path.unlink()
    assert [found.id for found in writer.open_entries()] == [entry.id for entry in entries]
    assert await writer.adopt_orphans() == []
    with pytest.raises(JournalError):
        await writer.load(entries[0].id)
    await writer.close()


async def test_what_we_refused_is_settled_from_the_start(tmp_path: Path) -> None:
    writer = await JournalWriter.open(settings_for(tmp_path))
    entry = make_entry(refused="554 5.6.11 no")
    await writer.append_entry(entry)
    assert not list(writer.open_entries())
    await writer.close()
    heir = await JournalWriter.open(settings_for(tmp_path))
    assert await heir.adopt_orphans() == []
    assert file_all(tmp_path) == [entry.id]
    await heir.close()


async def test_looking_in_while_the_writer_lives(tmp_path: Path) -> None:
    writer = await JournalWriter.open(settings_for(tmp_path))
    entries = [make_entry(300, rcpts=2) for _ in range(3)]
    for entry in entries:
        await writer.append_entry(entry)
    await settle(writer, entries[:1])
    await writer.append_mark(Mark(entries[1].id, 9, (1,), Fate.REJECTED, 550, "no"))
    listed = list(ls(tmp_path))
    assert [(item.id, item.settled, item.size_bytes) for item in listed] == [
        (entries[0].id, True, 300),
        (entries[1].id, False, 300),
        (entries[2].id, False, 300),
    ]
    assert listed[1].fates == [Fate.OPEN, Fate.REJECTED]
    found = find(tmp_path, entries[1].id)
    assert found is not None
    assert found[0] == entries[1]
    assert [mark.fate for mark in found[1]] == [Fate.REJECTED]
    assert find(tmp_path, "nobody") is None
    (report,) = verify(tmp_path)
    assert (report.live, report.entries, report.marks, report.damage) == (True, 3, 3, [])
    await writer.close()
    assert not verify(tmp_path)[0].live


async def test_a_directory_that_cannot_be_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="no journal in"):
        await JournalWriter.open(settings_for(tmp_path / "file" / "journal"))


async def test_no_body_stays_in_memory(tmp_path: Path) -> None:
    writer = await JournalWriter.open(settings_for(tmp_path, segment_bytes=1 << 24))
    for _ in range(20):
        await writer.append_entry(make_entry(100_000))
    await asyncio.sleep(0)
    gc.collect()
    held = [item for item in gc.get_objects() if isinstance(item, Entry) and len(item.wire) > 50_000]
    assert len(held) <= 1
    await writer.close()
    shutil.rmtree(tmp_path)
