"""Tailing a journal from another process while it is written, rolled, deleted and abandoned."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.journal.errors import JournalError
from proxy.journal.format import HEADER_BYTES
from proxy.journal.reader import JournalReader, StreamReader
from proxy.journal.records import Entry
from proxy.journal.stream import (
    DURABLE,
    FILED,
    is_live,
    list_segments,
    list_streams,
    pack_cursor,
    publish_filed,
    read_cursor,
)
from proxy.journal.writer import JournalWriter
from tests.support.journal import EIO, FaultyFiles, make_entry, settings_for, settle

TAIL = """
import hashlib, sys, time
from pathlib import Path
from proxy.journal import JournalReader, Entry, publish_filed

path, count = Path(sys.argv[1]), int(sys.argv[2])
reader, seen, deadline = JournalReader(path), [], time.monotonic() + 60
while len(seen) < count and time.monotonic() < deadline:
    items = reader.poll(max_records=13, max_bytes=20_000)
    seen += [item.record.id + hashlib.sha256(item.record.wire).hexdigest() for item in items
             if isinstance(item.record, Entry)]
    for stream in {item.stream for item in items}:
        publish_filed(path, stream, reader.position(stream))
    if not items:
        time.sleep(0.002)
print(chr(10).join(seen))
assert not reader.damage(), reader.damage()
"""


async def test_another_process_reads_each_once_while_segments_go(tmp_path: Path) -> None:
    count = 400
    writer = await JournalWriter.open(settings_for(tmp_path, segment_bytes=16_384))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        TAIL,
        str(tmp_path),
        str(count),
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    expected = []
    for start in range(0, count, 20):
        group = [make_entry(37 * (start % 90)) for _ in range(20)]
        await asyncio.gather(*(writer.append_entry(entry) for entry in group))
        expected += [entry.id + hashlib.sha256(entry.wire).hexdigest() for entry in group]
        await settle(writer, group)
        await writer.housekeep()
    stdout, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()
    assert stdout.decode().split() == expected
    await writer.housekeep()
    assert len(list_segments(tmp_path / list_streams(tmp_path)[0])) < 10
    await writer.close()


async def test_reading_stops_at_what_is_published(tmp_path: Path) -> None:
    writer = await JournalWriter.open(settings_for(tmp_path))
    lsns = [await writer.append_entry(make_entry()) for _ in range(3)]
    stream = tmp_path / list_streams(tmp_path)[0]
    cursor = stream / DURABLE
    whole = read_cursor(cursor)
    reader = JournalReader(tmp_path)
    cursor.write_bytes(pack_cursor(lsns[1]))
    assert len(reader.poll()) == 1
    cursor.write_bytes(b"torn")
    assert reader.poll() == []
    cursor.write_bytes(pack_cursor(whole))
    assert [item.lsn for item in reader.poll()] == lsns[1:]
    await writer.close()
    reader.close()


async def test_positions_are_the_callers(tmp_path: Path) -> None:
    writer = await JournalWriter.open(settings_for(tmp_path, segment_bytes=1024))
    entries = [make_entry(300) for _ in range(10)]
    for entry in entries:
        await writer.append_entry(entry)
    first = JournalReader(tmp_path)
    (stream,) = first.streams()
    items = first.poll(max_records=4)
    assert len(items) == 4
    second = JournalReader(tmp_path)
    second.seek(stream, items[-1].next_lsn)
    assert [item.record for item in second.poll()] == entries[4:]
    assert second.unread_bytes() == 0 < first.unread_bytes()
    assert len(JournalReader(tmp_path).poll(max_bytes=1)) == 1
    assert first.is_live(stream)
    await writer.close()
    assert not first.is_live(stream)
    with pytest.raises(JournalError):
        first.seek("../elsewhere", 0)
    first.close()
    second.close()


async def test_a_reader_between_failure_and_the_new_segment_never_sees_what_failed(tmp_path: Path) -> None:
    files = FaultyFiles()
    writer = await JournalWriter.open(settings_for(tmp_path), files=files)
    reader = JournalReader(tmp_path)
    kept = []
    for turn in range(30):
        files.faults["fdatasync"] = [EIO] if turn % 4 == 2 else []
        entry = make_entry(100 + turn)
        try:
            await writer.append_entry(entry)
            kept.append(entry)
        except JournalError:
            assert turn % 4 == 2
        if turn % 3 == 0:
            assert all(item.record in kept for item in reader.poll())
    fresh = JournalReader(tmp_path)
    assert [item.record for item in fresh.poll()] == kept
    assert not fresh.damage()
    await writer.close()
    reader.close()
    fresh.close()


async def test_segments_deleted_behind_and_ahead_of_the_cursor(tmp_path: Path) -> None:
    writer = await JournalWriter.open(settings_for(tmp_path, segment_bytes=1024))
    entries = [make_entry(300) for _ in range(12)]
    for entry in entries:
        await writer.append_entry(entry)
    stream = tmp_path / list_streams(tmp_path)[0]
    reader = StreamReader(stream)
    assert len(reader.poll(1, 1 << 20)) == 1
    segments = list_segments(stream)
    for segment in segments[:3]:
        segment.path.unlink()
    rest = [item for item in reader.poll(100, 1 << 20) if item.lsn >= segments[3].base]
    assert [item.record for item in rest][-1] == entries[-1]
    assert rest[0].lsn == segments[3].base
    for segment in list_segments(stream):
        segment.path.unlink()
    assert StreamReader(stream).poll(100, 1 << 20) == []
    await writer.close()
    reader.close()


async def test_garbage_is_passed_over_and_counted(tmp_path: Path) -> None:
    writer = await JournalWriter.open(settings_for(tmp_path, segment_bytes=2048))
    entries = [make_entry(500) for _ in range(12)]
    lsns = [await writer.append_entry(entry) for entry in entries]
    await writer.close()
    stream = tmp_path / list_streams(tmp_path)[0]
    segments = list_segments(stream)
    segments[1].path.write_bytes(b"garbage" * 300)
    data = bytearray(segments[2].path.read_bytes())
    data[HEADER_BYTES + 40] ^= 255
    segments[2].path.write_bytes(data)
    lost = {n for n, lsn in enumerate(lsns) if segments[1].base <= lsn < segments[2].base}
    lost.add(next(n for n, lsn in enumerate(lsns) if lsn == segments[2].base))
    reader = JournalReader(tmp_path)
    read = [item.record for item in reader.poll()]
    assert read == [entry for n, entry in enumerate(entries) if n not in lost]
    ((places, size_bytes),) = reader.damage().values()
    assert places == 2
    assert size_bytes > 1000
    reader.close()


async def test_new_streams_appear_and_none_starves(tmp_path: Path) -> None:
    reader = JournalReader(tmp_path)
    assert reader.poll() == []
    writers = [await JournalWriter.open(settings_for(tmp_path), worker=n) for n in range(3)]
    for writer in writers:
        for _ in range(30):
            await writer.append_entry(make_entry())
    turns = [{item.stream for item in reader.poll(max_records=10)} for _ in range(3)]
    assert len(set.union(*turns)) == 3
    assert sum(isinstance(item.record, Entry) for item in reader.poll()) == 60
    for writer in writers:
        await writer.close()
    reader.close()


def test_cursors_are_atomic_and_forgiving(tmp_path: Path) -> None:
    stream = tmp_path / "node-0-x"
    stream.mkdir()
    assert read_cursor(stream / FILED) == 0
    publish_filed(tmp_path, stream.name, 77)
    assert read_cursor(stream / FILED) == 77
    (stream / FILED).write_bytes(pack_cursor(78)[:-1] + b"!")
    assert read_cursor(stream / FILED) == 0
    assert not is_live(stream)
