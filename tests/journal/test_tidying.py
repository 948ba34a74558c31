"""What is settled and filed goes, what stays open is copied forward, leftovers are swept."""

from __future__ import annotations

import os
import time
from pathlib import Path

from proxy.journal.audit import find
from proxy.journal.files import Files
from proxy.journal.reader import JournalReader
from proxy.journal.records import Fate, Mark
from proxy.journal.stream import FILED, list_segments, list_streams, publish_filed, sweep
from proxy.journal.writer import JournalWriter
from tests.support.journal import (
    answered,
    file_all,
    forwarded,
    make_entry,
    settings_for,
    settle,
)


def names_in(path: Path) -> list[str]:
    return sorted(item.name for item in path.iterdir())


async def test_settled_and_filed_segments_go_oldest_first(tmp_path: Path) -> None:
    writer = await JournalWriter.open(settings_for(tmp_path, segment_bytes=8192))
    stream = tmp_path / list_streams(tmp_path)[0]
    entries = [make_entry(2000) for _ in range(20)]
    for entry in entries:
        await writer.append_entry(entry)
    await settle(writer, entries[:8] + entries[9:])
    await writer.housekeep()
    count = len(list_segments(stream))
    assert count > 5, "nothing is filed yet, nothing may go"
    file_all(tmp_path)
    await writer.housekeep()
    left = list_segments(stream)
    assert 1 < len(left) < count
    assert find(tmp_path, entries[8].id) is not None, "open: it pins its segment and all later ones"
    (stream / FILED).unlink()
    await settle(writer, [entries[8]])
    await writer.housekeep()
    assert list_segments(stream) == left, "without a cursor nothing may go"
    file_all(tmp_path)
    await writer.housekeep()
    assert len(list_segments(stream)) == 1
    assert writer.status()["segments"] == 1
    await writer.close()


async def test_a_settled_stream_goes_and_its_reader_does_not_mind(tmp_path: Path) -> None:
    writer = await JournalWriter.open(settings_for(tmp_path))
    entry = make_entry()
    await writer.append_entry(entry)
    await writer.close()
    reader = JournalReader(tmp_path)
    reader.poll()
    heir = await JournalWriter.open(settings_for(tmp_path))
    await heir.adopt_orphans()
    await heir.append_mark(forwarded(entry))
    file_all(tmp_path)
    await heir.housekeep()
    assert len(list_streams(tmp_path)) == 1
    assert not [name for name in names_in(tmp_path) if name.startswith(".del-")]
    assert reader.poll() == []
    publish_filed(tmp_path, "gone-0-0", 5)
    await heir.close()
    reader.close()


async def test_what_stays_open_is_copied_forward(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, segment_bytes=8192, copy_forward_after_s=0.0)
    writer = await JournalWriter.open(settings)
    stale = make_entry(100, rcpts=3)
    await writer.append_entry(stale)
    writer.append_mark(Mark(stale.id, 1, (1,), Fate.DEAD, 550, "no", "192.0.2.3:25"))
    writer.append_mark(answered(stale))
    bulk = [make_entry(3000) for _ in range(10)]
    for entry in bulk:
        await writer.append_entry(entry)
    await settle(writer, bulk)
    assert set(file_all(tmp_path)) == {stale.id, *(entry.id for entry in bulk)}
    (before,) = list(writer.open_entries())
    for _ in range(3):
        await writer.housekeep()
    (after,) = list(writer.open_entries())
    assert after.lsn > before.lsn
    assert (after.fates, after.hosts, after.answered) == (before.fates, before.hosts, before.answered)
    assert (await writer.load(stale.id)).copied_from == f"{before.lsn}:{before.stream}"
    assert writer.status()["segments"] == 1
    await writer.close()
    heir = await JournalWriter.open(settings)
    (found,) = await heir.adopt_orphans()
    assert (found.fates, found.answered) == (after.fates, after.answered)
    await heir.close()


async def test_copying_waits_until_it_pays(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, segment_bytes=8192, copy_forward_after_s=0.0)
    writer = await JournalWriter.open(settings)
    entries = [make_entry(3000) for _ in range(10)]
    for entry in entries:
        await writer.append_entry(entry)
        await writer.append_mark(answered(entry))
    file_all(tmp_path)
    before = [entry.lsn for entry in writer.open_entries()]
    await writer.housekeep()
    assert [entry.lsn for entry in writer.open_entries()] == before, "a handler that is down is no reason"
    await writer.close()


async def test_leftovers_of_making_and_removing_are_swept(tmp_path: Path) -> None:
    old = time.time() - 3600
    for name in (".new-a-0-x", ".del-b-0-y", ".new-c-0-z"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lock").touch()
        (tmp_path / name / "0000000000-00000000000000000000.seg").touch()
        os.utime(tmp_path / name, (old, old))
    os.utime(tmp_path / ".new-c-0-z")  # somebody may be at it
    sweep(Files(), tmp_path)
    assert names_in(tmp_path) == [".new-c-0-z"]
