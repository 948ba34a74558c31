"""The writer on a disk that fails: nothing that failed counts, nothing that was told durable is lost."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from proxy.journal.errors import JournalError
from proxy.journal.files import Files
from proxy.journal.reader import JournalReader
from proxy.journal.records import Entry, Fate, Mark
from proxy.journal.stream import list_segments, list_streams
from proxy.journal.writer import JournalWriter
from tests.support.journal import EIO, ENOSPC, FaultyFiles, Stuck, answered, forwarded, make_entry, settings_for


@pytest.mark.parametrize("call", ["fdatasync", "pwritev"])
async def test_a_failed_commit_goes_to_a_new_segment(tmp_path: Path, call: str) -> None:
    files = FaultyFiles()
    writer = await JournalWriter.open(settings_for(tmp_path), files=files)
    first, failed, later = make_entry(), make_entry(), make_entry()
    await writer.append_entry(first)
    mark = writer.append_mark(Mark(first.id, 1, (0,), Fate.IN_DOUBT, host="192.0.2.1:25"))
    await mark
    files.faults[call] = [EIO]
    files.calls.clear()
    entry_future = writer.append_entry(failed)
    mark_future = writer.append_mark(answered(first))
    lost_future = writer.append_mark(forwarded(failed))
    with pytest.raises(JournalError):
        await entry_future
    assert writer.status()["failed"]
    assert writer.status()["last_error"]
    broken_fd = next(fd for name, fd in files.calls if name == call)
    assert await mark_future > 0, "a mark of something durable is written again"
    with pytest.raises(JournalError):
        await lost_future
    await writer.append_entry(later)
    after = [item for item in files.calls[files.calls.index((call, broken_fd)) + 1 :] if item[0] != "create"]
    opened = len(list_segments(tmp_path / list_streams(tmp_path)[0]))
    assert opened == 2
    assert after, "and it went on elsewhere"
    assert not writer.status()["failed"]
    reader = JournalReader(tmp_path)
    read = [item.record for item in reader.poll()]
    assert [record.id for record in read if isinstance(record, Entry)] == [first.id, later.id]
    assert [record.answered for record in read if isinstance(record, Mark)] == [None, 250]
    await writer.close()
    heir = await JournalWriter.open(settings_for(tmp_path))
    found = {entry.id: entry for entry in await heir.adopt_orphans()}
    assert set(found) == {first.id, later.id}, "what failed is void, whatever reached the disk"
    assert found[first.id].fates == (Fate.IN_DOUBT,)
    await heir.close()
    reader.close()


class NeverAgain(Files):
    """After a failed fdatasync any further use of that descriptor but closing it is an error of the writer."""

    def __init__(self) -> None:
        self.fail = False
        self.broken: set[int] = set()
        self.misused = False

    def open(self, path: Path, flags: int) -> int:
        fd = super().open(path, flags)
        self.broken.discard(fd)
        return fd

    def fdatasync(self, fd: int) -> None:
        self.misused |= fd in self.broken
        if self.fail:
            self.fail = False
            self.broken.add(fd)
            raise OSError(EIO, "input/output error")
        super().fdatasync(fd)

    def ftruncate(self, fd: int, size_bytes: int) -> None:
        self.misused |= fd in self.broken
        super().ftruncate(fd, size_bytes)


async def test_the_failed_descriptor_is_never_used_again(tmp_path: Path) -> None:
    files = NeverAgain()
    writer = await JournalWriter.open(settings_for(tmp_path), files=files)
    for turn in range(12):
        files.fail = turn % 3 == 1
        future = writer.append_entry(make_entry())
        if turn % 3 == 1:
            with pytest.raises(JournalError):
                await future
        else:
            await future
    await writer.close()
    assert not files.misused


@pytest.mark.parametrize("call", ["create", "fallocate", "fdatasync"])
async def test_a_full_disk_is_told_and_passes(tmp_path: Path, call: str) -> None:
    files = FaultyFiles()
    files.faults[call] = [ENOSPC] * 3
    writer = await JournalWriter.open(settings_for(tmp_path), files=files)  # the first segment fails already
    assert writer.status()["failed"]
    for _ in range(2):
        with pytest.raises(JournalError):
            await writer.append_entry(make_entry())
    assert not list_segments(tmp_path / list_streams(tmp_path)[0]), "no litter on a full disk"
    entry = make_entry()
    await writer.append_entry(entry)
    assert not writer.status()["failed"]
    assert [found.id for found in writer.open_entries()] == [entry.id]
    await writer.close()


async def test_less_room_than_a_segment_is_room(tmp_path: Path) -> None:
    class SmallDisk(Files):
        def free_bytes(self, path: Path) -> int:
            return 50_000

        def fallocate(self, fd: int, size_bytes: int) -> None:
            if size_bytes > 50_000:
                raise OSError(ENOSPC, "No space left on device")
            super().fallocate(fd, size_bytes)

    writer = await JournalWriter.open(settings_for(tmp_path), files=SmallDisk())
    entries = [make_entry(10_000) for _ in range(4)]
    for entry in entries:
        await writer.append_entry(entry)
    assert not writer.status()["failed"]
    await writer.close()


async def test_no_fallocate_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr("os.posix_fallocate", unsupported)
    writer = await JournalWriter.open(settings_for(tmp_path, segment_bytes=4096))
    entries = [make_entry(1000) for _ in range(10)]
    for entry in entries:
        await writer.append_entry(entry)
    assert len(list(writer.open_entries())) == 10
    await writer.close()


async def test_carried_marks_are_bounded_and_written_when_the_disk_is_back(tmp_path: Path) -> None:
    files = FaultyFiles()
    writer = await JournalWriter.open(settings_for(tmp_path), files=files)
    entry = make_entry()
    await writer.append_entry(entry)
    await writer.append_mark(answered(entry))
    files.faults["pwritev"] = [EIO] * 20
    marks = []
    for turn in range(20):
        marks.append(writer.append_mark(Mark(entry.id, turn, (0,), Fate.OPEN, 451, str(turn), "192.0.2.1:25")))
        with pytest.raises(JournalError):
            await writer.flush()
    assert len(writer._committer._carried[writer._pipeline.own]) == 1
    files.faults.clear()
    assert await marks[-1] > 0
    reader = JournalReader(tmp_path)
    texts = [item.record.text for item in reader.poll() if isinstance(item.record, Mark)]
    assert texts == ["", "19"]
    await writer.close()
    reader.close()


async def test_closing_on_a_dead_disk_ends(tmp_path: Path) -> None:
    files = FaultyFiles()
    writer = await JournalWriter.open(settings_for(tmp_path), files=files)
    entry = make_entry()
    await writer.append_entry(entry)
    files.faults["pwritev"] = [EIO] * 1000
    mark, late = writer.append_mark(answered(entry)), writer.append_entry(make_entry())
    await writer.close()
    for future in (mark, late):
        with pytest.raises(JournalError):
            await future


async def test_a_hanging_fsync_blocks_nobody_and_shows(tmp_path: Path) -> None:
    files = Stuck()
    writer = await JournalWriter.open(settings_for(tmp_path), files=files)
    files.release.clear()
    futures = [writer.append_entry(make_entry()) for _ in range(5)]
    while not writer.status()["syncing_s"]:  # noqa: ASYNC110 - another thread sets it
        await asyncio.sleep(0.005)
    assert not any(future.done() for future in futures)
    assert writer.status()["pending"] == 5
    assert not list(writer.open_entries())
    files.release.set()
    await asyncio.gather(*futures)
    assert writer.status()["pending"] == 0
    await writer.close()


async def test_a_cancelled_waiter_does_not_undo_the_write(tmp_path: Path) -> None:
    files = Stuck()
    writer = await JournalWriter.open(settings_for(tmp_path), files=files)
    files.release.clear()
    entry = make_entry()
    writer.append_entry(entry).cancel()
    files.release.set()
    await writer.flush()
    assert [found.id for found in writer.open_entries()] == [entry.id]
    await writer.close()


async def test_a_hanging_fsync_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.journal.pipeline._PENDING_LIMIT_BYTES", 50_000)
    files = Stuck()
    writer = await JournalWriter.open(settings_for(tmp_path), files=files)
    files.release.clear()
    futures = [writer.append_entry(make_entry(20_000)) for _ in range(4)]
    refused = [future for future in futures if future.done()]
    assert len(refused) == 2
    for future in refused:
        with pytest.raises(JournalError, match="too slow"):
            await future
    files.release.set()
    await asyncio.gather(*futures[:2])
    await writer.append_entry(make_entry(60_000))  # alone, whatever its size
    await writer.close()
