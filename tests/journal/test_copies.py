"""Copies of what stays open: the original and the copy are one entry, whichever of them a crash leaves."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

from proxy.journal.files import Files
from proxy.journal.records import Entry, Fate, Mark, OpenEntry
from proxy.journal.stream import list_segments, list_streams
from proxy.journal.writer import JournalWriter
from proxy.settings import JournalSettings
from tests.support.journal import Stuck, answered, file_all, forwarded, make_entry, settings_for, settle
from tests.support.powerloss import RecordingFiles


def eager(path: Path) -> JournalSettings:
    return settings_for(path, segment_bytes=8192, copy_forward_after_s=0.0)


async def stale_entry(path: Path) -> Entry:
    """A stream with one entry left open, doubtful for one recipient and dead for another, in its oldest segment."""
    writer = await JournalWriter.open(eager(path))
    stale = make_entry(100, rcpts=3)
    await writer.append_entry(stale)
    writer.append_mark(Mark(stale.id, 1, (0,), Fate.IN_DOUBT, 0, "", "192.0.2.3:25"))
    writer.append_mark(Mark(stale.id, 1, (1,), Fate.DEAD, 550, "no", "192.0.2.3:25"))
    writer.append_mark(answered(stale))
    bulk = [make_entry(3000) for _ in range(10)]
    for entry in bulk:
        await writer.append_entry(entry)
    await settle(writer, bulk)
    await writer.close()
    file_all(path)
    return stale


async def heir_of(path: Path, files: Files | None = None) -> tuple[JournalWriter, list[OpenEntry]]:
    writer = await JournalWriter.open(eager(path), files=files)
    return writer, await writer.adopt_orphans()


def told(entry: OpenEntry) -> OpenEntry:
    """What is known of an entry, wherever it is."""
    return dataclasses.replace(entry, lsn=0, stream="")


async def test_the_original_does_not_rise_again(tmp_path: Path) -> None:
    stale = await stale_entry(tmp_path)
    old = list_streams(tmp_path)[0]
    writer, _ = await heir_of(tmp_path)
    await writer.housekeep()
    (entry,) = list(writer.open_entries())
    assert entry.stream != old, "it was copied into the living stream"
    await writer.append_mark(forwarded(stale))
    await writer.close()
    assert old in list_streams(tmp_path), "the filer has not yet read that it moved"
    last, found = await heir_of(tmp_path)
    assert found == []
    await last.close()


async def test_a_copy_whose_marks_were_torn_knows_what_the_original_knew(tmp_path: Path) -> None:
    await stale_entry(tmp_path)
    old = list_streams(tmp_path)[0]
    writer, (before,) = await heir_of(tmp_path)
    await writer.housekeep()
    (copy,) = list(writer.open_entries())
    new = copy.stream
    await writer.close()
    segment = list_segments(tmp_path / new)[-1].path
    data = segment.read_bytes()
    first_mark = data.index(data[64:68], 68)
    segment.write_bytes(data[: first_mark + 30])  # the copy came through, its marks did not
    for name in list_segments(tmp_path / old)[-1:]:  # nor did the mark that it had moved
        name.path.unlink()
    for _ in range(2):  # what recovery finds it also keeps
        last, (found,) = await heir_of(tmp_path)
        assert told(found) == told(before)
        await last.close()


async def test_within_a_stream_too(tmp_path: Path) -> None:
    writer = await JournalWriter.open(eager(tmp_path))
    stale = make_entry(100, rcpts=3)
    await writer.append_entry(stale)
    writer.append_mark(Mark(stale.id, 1, (0,), Fate.IN_DOUBT, 0, "", "192.0.2.3:25"))
    await writer.append_mark(answered(stale))
    bulk = [make_entry(3000) for _ in range(10)]
    for entry in bulk:
        await writer.append_entry(entry)
    await settle(writer, bulk)
    file_all(tmp_path)
    (before,) = list(writer.open_entries())
    await writer.housekeep()
    (copy,) = list(writer.open_entries())
    assert copy.lsn > before.lsn
    assert copy.stream == before.stream
    await writer.close()
    name = list_segments(tmp_path / copy.stream)[-1]
    data = name.path.read_bytes()
    at = 64 + copy.lsn - name.base
    name.path.write_bytes(data[: data.index(data[at : at + 4], at + 4)])
    last, (found,) = await heir_of(tmp_path)
    assert told(found) == told(before)
    assert found.lsn == copy.lsn
    await last.close()


async def test_marks_follow_a_copy_that_is_on_its_way(tmp_path: Path) -> None:
    stale = await stale_entry(tmp_path)
    old = list_streams(tmp_path)[0]
    files = Stuck()
    writer, _ = await heir_of(tmp_path, files)
    files.release.clear()
    tidying = asyncio.ensure_future(writer.housekeep())
    while not writer.status()["syncing_s"]:  # noqa: ASYNC110 - another thread sets it
        await asyncio.sleep(0.005)
    mark = writer.append_mark(Mark(stale.id, 9, (0,), Fate.FORWARDED, 250, "ok", "192.0.2.4:25"))
    files.release.set()
    await tidying
    await mark
    await writer.flush()  # the original's `moved_to`, which the filer must read before its stream may go
    file_all(tmp_path)
    await writer.housekeep()
    assert old not in list_streams(tmp_path)
    await writer.close()
    last, (found,) = await heir_of(tmp_path)
    assert found.fates == (Fate.FORWARDED, Fate.DEAD, Fate.OPEN)
    await last.close()


async def test_recovery_syncs_before_it_believes(tmp_path: Path) -> None:
    await stale_entry(tmp_path)
    old = tmp_path / list_streams(tmp_path)[0]
    files = RecordingFiles(tmp_path)
    writer, _ = await heir_of(tmp_path, files)
    synced: set[int] = set()
    for op in files.log:
        assert not isinstance(op, tuple)
        if op.kind == "sync":
            synced.add(op.node)
        if op.kind == "write" and op.node == files._node(old / "durable"):
            break
    assert {files._node(name.path) for name in list_segments(old)} <= synced
    await writer.close()


async def test_a_stream_whose_lock_was_lost_is_still_adopted(tmp_path: Path) -> None:
    stale = await stale_entry(tmp_path)
    (tmp_path / list_streams(tmp_path)[0] / "lock").unlink()
    writer, found = await heir_of(tmp_path)
    assert [entry.id for entry in found] == [stale.id]
    await writer.close()
