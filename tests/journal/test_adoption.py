"""What dead writers left: who takes it, what recovery passes over, where the next life begins."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.journal.audit import verify
from proxy.journal.reader import JournalReader
from proxy.journal.records import Entry, Mark
from proxy.journal.stream import DURABLE, list_segments, list_streams, lock_stream, pack_cursor, publish_filed
from proxy.journal.writer import JournalWriter
from tests.support.journal import (
    bad_disk,
    forwarded,
    make_entry,
    settings_for,
    settle,
)


async def test_two_heirs_share_out_the_orphans(tmp_path: Path) -> None:
    entries = [make_entry() for _ in range(6)]
    for entry in entries:
        writer = await JournalWriter.open(settings_for(tmp_path))
        await writer.append_entry(entry)
        await writer.close()
    heirs = [await JournalWriter.open(settings_for(tmp_path), worker=n) for n in range(3)]
    shares = await asyncio.gather(*(heir.adopt_orphans() for heir in heirs))
    assert sorted(entry.id for share in shares for entry in share) == sorted(e.id for e in entries)
    for heir in heirs:
        await heir.close()


async def test_a_live_stream_is_nobody_elses(tmp_path: Path) -> None:
    writer = await JournalWriter.open(settings_for(tmp_path))
    await writer.append_entry(make_entry())
    other = await JournalWriter.open(settings_for(tmp_path), worker=1)
    assert await other.adopt_orphans() == []
    assert lock_stream(tmp_path / list_streams(tmp_path)[0]) is None
    await other.close()
    await writer.close()


async def test_a_later_version_is_left_untouched(tmp_path: Path) -> None:
    writer = await JournalWriter.open(settings_for(tmp_path))
    await writer.append_entry(make_entry())
    await writer.close()
    (segment,) = list_segments(tmp_path / list_streams(tmp_path)[0])
    data = bytearray(segment.path.read_bytes())
    data[8] = 9
    segment.path.write_bytes(data)
    heir = await JournalWriter.open(settings_for(tmp_path))
    assert await heir.adopt_orphans() == []
    assert "version 9" in str(heir.status()["refused_streams"])
    assert segment.path.read_bytes() == data
    reader = JournalReader(tmp_path)
    assert reader.poll() == []
    assert reader.refused()
    assert [bool(report.refused) for report in verify(tmp_path)] == [True, False]
    await heir.close()
    reader.close()


async def test_recovery_cuts_a_torn_tail_and_passes_over_damage(tmp_path: Path) -> None:
    writer = await JournalWriter.open(settings_for(tmp_path))
    entries = [make_entry(300) for _ in range(5)]
    lsns = [await writer.append_entry(entry) for entry in entries]
    await writer.close()
    stream = tmp_path / list_streams(tmp_path)[0]
    (segment,) = list_segments(stream)
    data = bytearray(segment.path.read_bytes())
    data[64 + lsns[1] + 100] ^= 1  # a bad sector in the second
    data[-1] ^= 1  # the last one torn, before its fsync
    (stream / DURABLE).write_bytes(pack_cursor(lsns[4]))
    segment.path.write_bytes(data)
    reader = JournalReader(tmp_path)
    heir = await JournalWriter.open(settings_for(tmp_path))
    found = await heir.adopt_orphans()
    assert [entry.id for entry in found] == [entries[n].id for n in (0, 2, 3)]
    assert len(heir.damage) == 1
    assert len(segment.path.read_bytes()) == 64 + lsns[4]
    assert [item.record.id for item in reader.poll() if isinstance(item.record, Entry)] == [
        entries[n].id for n in (0, 2, 3)
    ]
    assert reader.damage()
    await heir.close()
    reader.close()


async def test_what_was_durable_is_no_torn_tail(tmp_path: Path) -> None:
    """A bad last record that had been acknowledged is a loss: told, and kept for whoever can still read it."""
    writer = await JournalWriter.open(settings_for(tmp_path))
    entries = [make_entry(300) for _ in range(2)]
    await asyncio.gather(*map(writer.append_entry, entries))
    await writer.close()
    name = list_streams(tmp_path)[0]
    (segment,) = list_segments(tmp_path / name)
    data = bytearray(segment.path.read_bytes())
    data[-1] ^= 1
    segment.path.write_bytes(data)
    heir = await JournalWriter.open(settings_for(tmp_path))
    assert [entry.id for entry in await heir.adopt_orphans()] == [entries[0].id]
    assert len(heir.damage[name]) == 1
    assert segment.path.read_bytes() == data
    await heir.append_mark(forwarded(entries[0]))
    publish_filed(tmp_path, name, 1_000_000)
    await heir.housekeep()
    assert segment.path.read_bytes() == data
    await heir.close()


@pytest.mark.parametrize("bad_page", [0, 2, 8])
async def test_a_bad_sector_costs_what_lies_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad_page: int
) -> None:
    """Not what lies behind it, nor what is in other segments, nor the file, which the next life may be able to read."""
    writer = await JournalWriter.open(settings_for(tmp_path, segment_bytes=40_000))
    entries = [make_entry(5000) for _ in range(14)]
    lsns = [await writer.append_entry(entry) for entry in entries]
    await writer.close()
    name = list_streams(tmp_path)[0]
    first, second, *_ = list_segments(tmp_path / name)
    before = first.path.read_bytes()
    assert len(before) > 8 * 4096
    with monkeypatch.context() as patched:
        bad_disk(patched, first.path, bad_page * 4096)
        reader = JournalReader(tmp_path)
        with pytest.raises(OSError, match="Input/output"):
            reader.poll()
        reader.close()
        heir = await JournalWriter.open(settings_for(tmp_path))
        found = {entry.id for entry in await heir.adopt_orphans()}
        reader = JournalReader(tmp_path, forgiving=True)
        read = {item.record.id for item in reader.poll() if isinstance(item.record, Entry)}
        reader.close()
        start, end = bad_page * 4096 - 64, (bad_page + 1) * 4096 - 64
        ends = [*lsns[1:], lsns[-1] + 6000]
        hit = {
            entry.id
            for entry, lsn, over in zip(entries, lsns, ends, strict=True)
            if lsn < second.base and (bad_page == 0 or (lsn < end and over > start))
        }
        assert found == read == {entry.id for entry in entries} - hit
        assert heir.damage[name]
        await settle(heir, [entry for entry in entries if entry.id in found])
        publish_filed(tmp_path, name, 1_000_000)
        await heir.housekeep()
        await heir.close()
    assert first.path.read_bytes() == before
    last = await JournalWriter.open(settings_for(tmp_path))
    assert {entry.id for entry in await last.adopt_orphans()} == hit
    await last.close()


async def test_a_missing_segment_is_told(tmp_path: Path) -> None:
    writer = await JournalWriter.open(settings_for(tmp_path, segment_bytes=4096))
    entries = [make_entry(2000) for _ in range(9)]
    for entry in entries:
        await writer.append_entry(entry)
    await writer.close()
    name = list_streams(tmp_path)[0]
    _, second, third, *_ = list_segments(tmp_path / name)
    second.path.unlink()
    heir = await JournalWriter.open(settings_for(tmp_path))
    assert len(await heir.adopt_orphans()) < len(entries)
    (line,) = heir.damage[name]
    assert f"{third.base - second.base} bytes at LSN {second.base}" in line
    await heir.close()


async def test_the_next_life_begins_past_the_filers_cursor(tmp_path: Path) -> None:
    writer = await JournalWriter.open(settings_for(tmp_path))
    await writer.append_entry(make_entry())
    await writer.close()
    stream = list_streams(tmp_path)[0]
    publish_filed(tmp_path, stream, 1_000_000)  # a disk that lost what it said it had
    reader = JournalReader(tmp_path)
    reader.seek(stream, 1_000_000)
    heir = await JournalWriter.open(settings_for(tmp_path))
    await heir.adopt_orphans()
    await heir.flush()
    assert [item.record.answered for item in reader.poll() if isinstance(item.record, Mark)] == [0]
    await heir.close()
    reader.close()
