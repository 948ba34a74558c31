"""The writer on a disk that works: durability, marks, bounds, adoption, housekeeping."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from proxy.journal import unanswered
from proxy.journal.audit import find, ls, verify
from proxy.journal.errors import JournalError
from proxy.journal.files import Files
from proxy.journal.reader import JournalReader
from proxy.journal.records import Entry, Fate, Mark
from proxy.journal.stream import FILED, list_segments, list_streams, lock_stream, publish_filed, sweep
from proxy.journal.unanswered import Unanswered, UnansweredHit
from proxy.journal.writer import JournalWriter
from tests.support.journal import (
    RecordingFiles,
    ShortFiles,
    answered,
    file_all,
    forwarded,
    make_entry,
    settings_for,
    settle,
)


def names_in(path: Path) -> list[str]:
    return sorted(item.name for item in path.iterdir())


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


async def test_unanswered_is_remembered_with_the_recorded_refusal(tmp_path: Path) -> None:
    writer = await JournalWriter.open(settings_for(tmp_path))
    plain, refused, told = make_entry(), make_entry(rcpts=2), make_entry()
    for entry in (plain, refused, told):
        await writer.append_entry(entry)
    writer.append_mark(Mark(refused.id, 1, (0, 1), Fate.REJECTED, 550, "5.1.1 no such user"))
    await writer.append_mark(answered(told))
    await writer.close()
    heir = await JournalWriter.open(settings_for(tmp_path))
    assert {entry.id for entry in await heir.adopt_orphans()} == {plain.id, told.id}
    await heir.close()
    last = await JournalWriter.open(settings_for(tmp_path))  # it outlives the stream it came from
    hit = last.was_unanswered(refused.digest)
    assert hit is not None
    assert (hit.id, hit.code, hit.text) == (refused.id, 550, "5.1.1 no such user")
    hit = last.was_unanswered(plain.digest)
    assert hit is not None
    assert (hit.id, hit.code) == (plain.id, 0)
    assert last.was_unanswered(told.digest) is None
    await last.close()


async def test_a_client_that_vanished_counts_as_unanswered(tmp_path: Path) -> None:
    writer = await JournalWriter.open(settings_for(tmp_path))
    entry = make_entry()
    await writer.append_entry(entry)
    await writer.append_mark(Mark(entry.id, 1, answered=0))
    assert writer.was_unanswered(entry.digest) is not None
    other = await JournalWriter.open(settings_for(tmp_path), worker=1)  # another worker knows it too
    assert other.was_unanswered(entry.digest) is not None
    await other.close()
    await writer.close()


async def test_unanswered_expires(tmp_path: Path) -> None:
    now = time.time()
    lines = [
        {"digest": bytes([n]).hex() * 32, "id": str(n), "code": 0, "text": "", "at_s": now - n * 86_400}
        for n in range(20)
    ]
    path = tmp_path / "unanswered"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"torn')
    writer = await JournalWriter.open(settings_for(tmp_path))
    assert writer.was_unanswered(bytes([4]) * 32) is not None
    assert writer.was_unanswered(bytes([6]) * 32) is None
    assert len(path.read_text().splitlines()) == 5
    assert unanswered.KEEP_S == 5 * 86_400
    await writer.close()


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
    (segment,) = list_segments(tmp_path / list_streams(tmp_path)[0])
    data = bytearray(segment.path.read_bytes())
    data[64 + lsns[1] + 100] ^= 1  # a bad sector in the second
    data[-1] ^= 1  # the last one torn
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


async def test_unanswered_is_read_on_and_not_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever hangs up before each reply must not make us read the whole file each second."""
    monkeypatch.setattr(unanswered, "_PRUNE_EVERY", 4)
    ours, theirs = Unanswered(Files(), tmp_path), Unanswered(Files(), tmp_path)

    def hit(number: int, code: int = 0, days_old: float = 0.0) -> UnansweredHit:
        return UnansweredHit(bytes([number]) * 32, str(number), code, "", time.time() - days_old * 86_400)

    ours.store([hit(number, days_old=6) for number in range(20)])
    waiting = hit(100)
    ours.remember(waiting)  # not stored yet
    theirs.store([hit(101)])
    ours.refresh()
    theirs.store([hit(102)])  # in the file that ours has rewritten
    for each in (ours, theirs):
        each.refresh()
        assert each.get(bytes([101]) * 32) is not None
        assert each.get(bytes([102]) * 32) is not None
        assert each.get(bytes([3]) * 32) is None
    assert ours.get(waiting.digest) == waiting
    ours.store([waiting])
    ours.store([hit(101, unanswered.ANSWERED)])
    theirs.refresh()
    assert theirs.get(waiting.digest) == waiting
    assert theirs.get(bytes([101]) * 32) is None
    assert len((tmp_path / "unanswered").read_text("ascii").splitlines()) < 12
    seen: list[bytes] = []
    monkeypatch.setattr(unanswered, "_hit", seen.append)
    theirs.refresh()
    assert seen == []
