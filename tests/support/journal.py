"""Journal test helpers: entries, faulty and recording `Files`, a workload, and what must hold after it was cut short.

The workload walks through every crash point: two writer lives, adoption, rollover, copying forward, deletion. It tells
what it did as events; `check` recovers a directory and holds what it finds against the events up to the crash.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proxy.journal.audit import find
from proxy.journal.files import Files
from proxy.journal.format import SegmentHeader, pack_frame
from proxy.journal.ids import new_id
from proxy.journal.reader import JournalReader
from proxy.journal.records import FINAL, Entry, Fate, Mark
from proxy.journal.stream import publish_filed
from proxy.journal.writer import JournalWriter
from proxy.settings import JournalSettings

Event = tuple[str, ...]


def make_entry(size_bytes: int = 200, *, ident: str = "", rcpts: int = 1, **fields: object) -> Entry:
    ident = ident or new_id()
    body = random.Random(ident).randbytes(max(0, size_bytes - 2)).replace(b"\n", b"x")
    wire = body + b"\r\n" if size_bytes else b""
    rcpt_args = tuple(b"<r%d@bounces.example>" % n for n in range(rcpts))
    digest = hashlib.sha256(ident.encode() + wire).digest()
    values: dict[str, object] = {
        "id": ident,
        "received_ns": 1,
        "peer": "192.0.2.1:1234",
        "helo": b"mx.example",
        "tls": "",
        "mail_arg": b"<>",
        "rcpt_args": rcpt_args,
        "wire": wire,
        "digest": digest,
        **fields,
    }
    return Entry(**values)  # type: ignore[arg-type]


def settings_for(path: Path, **fields: object) -> JournalSettings:
    values: dict[str, object] = {"dir": path, "reserve_bytes": 0, "segment_bytes": 65536, **fields}
    return JournalSettings(**values)  # type: ignore[arg-type]


def forwarded(entry: Entry) -> Mark:
    return Mark(entry.id, 2, tuple(range(len(entry.rcpt_args))), Fate.FORWARDED, 250, "ok", "192.0.2.9:25")


def answered(entry: Entry, code: int = 250) -> Mark:
    return Mark(entry.id, 2, answered=code)


async def settle(writer: JournalWriter, entries: Iterable[Entry]) -> None:
    for entry in entries:
        writer.append_mark(forwarded(entry))
        writer.append_mark(answered(entry))
    await writer.flush()


class FaultyFiles(Files):
    """Fails the calls named in `faults`: {"fdatasync": [EIO, None, EIO]} by turns, None lets one through."""

    def __init__(self) -> None:
        self.faults: dict[str, list[int | None]] = {}
        self.calls: list[tuple[str, int]] = []

    def _maybe(self, call: str, fd: int = -1) -> None:
        self.calls.append((call, fd))
        turns = self.faults.get(call)
        number = turns.pop(0) if turns else None
        if number is not None:
            raise OSError(number, os.strerror(number))

    def open(self, path: Path, flags: int) -> int:
        if path.suffix == ".seg" and flags & os.O_CREAT:
            self._maybe("create")
        return super().open(path, flags)

    def pwritev(self, fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        self._maybe("pwritev", fd)
        return super().pwritev(fd, buffers, offset)

    def fdatasync(self, fd: int) -> None:
        self._maybe("fdatasync", fd)
        super().fdatasync(fd)

    def fallocate(self, fd: int, size_bytes: int) -> None:
        self._maybe("fallocate", fd)
        super().fallocate(fd, size_bytes)


class ShortFiles(Files):
    """Writes a few bytes at a time."""

    def pwritev(self, fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        return super().pwritev(fd, [bytes(b"".join(buffers[:3]))[:97]], offset)


class Stuck(Files):
    """fdatasync hangs until `release` is set."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.release.set()

    def fdatasync(self, fd: int) -> None:
        self.release.wait(30)
        super().fdatasync(fd)


def file_all(path: Path) -> list[str]:
    """As the filer does: read everything, publish how far. Returns the ids of the entries read."""
    reader = JournalReader(path)
    ids = []
    while items := reader.poll():
        ids += [item.record.id for item in items if isinstance(item.record, Entry)]
    for stream in reader.streams():
        publish_filed(path, stream, reader.position(stream))
    reader.close()
    return ids


COUNT = 24


def workload_entry(index: int) -> Entry:
    """The same each time: small ones that stay open, bulky ones that settle, an empty one, one past a segment."""
    size = 1800 + 100 * index if index % 4 == 0 else 40 + 10 * index
    if index == 2:
        size = 0
    if index == 8:
        size = 9000
    entry = make_entry(size, ident=f"{index:026d}", rcpts=1 + index % 3)
    if index == 5:  # bytes that look like our own
        frame = pack_frame(SegmentHeader(0, 0, 0, b"\1" * 8), 1, 0, [b"x"])
        entry = make_entry(0, ident=f"{index:026d}", wire=frame * 3 + b"\r\n")
    return entry


def _first_marks(entry: Entry, index: int) -> list[Mark]:
    every = tuple(range(len(entry.rcpt_args)))
    return [
        [forwarded(entry), answered(entry)],
        [answered(entry)],
        [],
        [Mark(entry.id, 2, every, Fate.IN_DOUBT, 0, "", "192.0.2.7:25"), answered(entry)],
    ][index % 4]


async def workload(path: Path, files: Files, note: Callable[[Event], None]) -> None:
    """Two lives of a writer. Events: submit ID, ack ID, mark ID WHAT, marked ID WHAT, filed ID."""
    settings = settings_for(path, segment_bytes=4096, copy_forward_after_s=0.0)

    async def submit(writer: JournalWriter, index: int) -> None:
        entry = workload_entry(index)
        note(("submit", entry.id))
        await writer.append_entry(entry)
        note(("ack", entry.id))

    async def put(writer: JournalWriter, mark: Mark) -> None:
        what = "answered" if mark.answered is not None else str(mark.fate)
        note(("mark", mark.id, what))
        await writer.append_mark(mark)
        note(("marked", mark.id, what))

    async def receive(writer: JournalWriter, indices: range) -> None:
        for start in range(indices.start, indices.stop, 3):
            group = range(start, min(start + 3, indices.stop))
            await asyncio.gather(*(submit(writer, index) for index in group))
            marks = [mark for index in group for mark in _first_marks(workload_entry(index), index)]
            await asyncio.gather(*(put(writer, mark) for mark in marks))

    reader = JournalReader(path)

    async def file(writer: JournalWriter) -> None:
        while items := reader.poll(max_records=7):
            for item in items:
                if isinstance(item.record, Entry):
                    note(("filed", item.record.id))
        for stream in reader.streams():
            publish_filed(path, stream, reader.position(stream))
        for _ in range(6):
            await writer.housekeep()

    writer = await JournalWriter.open(settings, files=files)
    await receive(writer, range(COUNT // 2))
    await writer.close()

    writer = await JournalWriter.open(settings, files=files)
    await writer.adopt_orphans()
    await writer.flush()
    await file(writer)
    await receive(writer, range(COUNT // 2, COUNT))
    await file(writer)
    for index in range(COUNT):  # half of what is open is delivered at last
        if index % 4 and index % 8 < 4 and not (index >= COUNT // 2 and index % 4 == 2):
            await put(writer, forwarded(workload_entry(index)))
    await file(writer)
    await writer.close()
    reader.close()


@dataclass
class _Truth:
    submitted: bool = False
    acked: bool = False
    filed: bool = False
    given: set[str] = field(default_factory=set)
    durable: set[str] = field(default_factory=set)


def assert_counts(writer: JournalWriter) -> None:
    """What is counted as it changes is what is there."""
    states = list(writer._ledger.states.values())
    status = writer.status()
    assert status["open"] == sum(1 for state in states if state.open)
    assert status["undecided"] == sum(1 for state in states if state.answered is None)


async def check(path: Path, events: Sequence[Event], *, again: bool = True) -> None:
    """Recover `path`, which a crash after `events` left, and hold the state table against what is found."""
    truths = {workload_entry(index).id: _Truth() for index in range(COUNT)}
    for kind, ident, *what in events:
        truth = truths[ident]
        truth.submitted |= kind == "submit"
        truth.acked |= kind == "ack"
        truth.filed |= kind == "filed"
        if kind == "mark":
            truth.given.add(what[0])
        elif kind == "marked":
            truth.durable.add(what[0])

    for index in range(COUNT):  # the filer gets to see everything that was acknowledged, and it is what was given
        entry = workload_entry(index)
        if truths[entry.id].acked and not truths[entry.id].filed:
            found = find(path, entry.id)
            assert found is not None, f"{entry.id} was acknowledged and is gone"
            assert found[0].wire == entry.wire

    writer = await JournalWriter.open(settings_for(path, segment_bytes=4096, copy_forward_after_s=0.0))
    opened = {entry.id: entry for entry in await writer.adopt_orphans()}
    assert not writer.refused
    assert_counts(writer)
    for index in range(COUNT):
        entry, truth = workload_entry(index), truths[workload_entry(index).id]
        finals = {str(fate) for fate in FINAL}
        undecided_kind = index % 4 == 2
        surely_settled = truth.durable & finals and (undecided_kind or "answered" in truth.durable)
        found_open = opened.get(entry.id)
        if not truth.submitted or surely_settled:
            assert found_open is None, f"{entry.id} has risen from the dead"
        if truth.acked and not truth.given & finals:
            assert found_open is not None, f"{entry.id} was acknowledged and is not replayed"
        if found_open is None:
            continue
        loaded = await writer.load(entry.id)
        assert (loaded.wire, loaded.rcpt_args) == (entry.wire, entry.rcpt_args)
        assert found_open.answered in {0, 250}
        if "answered" in truth.durable:
            assert found_open.answered == 250
        if found_open.answered == 0:
            hit = writer.was_unanswered(entry.digest)
            assert hit is not None
            assert (hit.id, hit.code) == (entry.id, 0)
        if "in_doubt" in truth.durable and not truth.given & finals:
            assert set(found_open.fates) == {Fate.IN_DOUBT}
            assert set(found_open.hosts) == {"192.0.2.7:25"}
    await writer.flush()
    await writer.close()

    if again:  # the same again: recovery changes nothing that recovery finds
        writer = await JournalWriter.open(settings_for(path, segment_bytes=4096))
        repeated = await writer.adopt_orphans()
        assert [(e.id, e.fates, e.answered) for e in repeated] == [
            (e.id, e.fates, e.answered) for e in sorted(opened.values(), key=lambda e: e.id)
        ]
        await writer.close()


EIO, ENOSPC = errno.EIO, errno.ENOSPC


def bad_disk(patched: pytest.MonkeyPatch, path: Path, at: int) -> None:
    """One page of a file cannot be read: as the kernel has it, a read stops short before it, or fails on it."""
    pread, inode = os.pread, path.stat().st_ino

    def failing(fd: int, length: int, offset: int) -> bytes:
        if os.fstat(fd).st_ino == inode and offset < at + 4096 and offset + length > at:
            if offset >= at:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            length = at - offset
        return pread(fd, length, offset)

    patched.setattr(os, "pread", failing)
