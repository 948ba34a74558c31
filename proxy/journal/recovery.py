"""What a stream holds after its writer died.

fsync first, then believe; cut a torn tail at the last good record, never anything before a valid one.

The damaged stretch before a later valid record is passed over and reported. What the scan finds is durable by
construction (it was fsynced before it was read), and the LSN where the next segment may begin is past all of it, past
whatever the writer said was durable, and past whatever the filer says it has read.

What was durable and cannot be read was acknowledged mail: such a stream is `lossy`. Nothing of it is cut, and nothing
deleted, for as long as it is here: it may be all that is left, and a disk that only failed for a while gives it back
to the next life.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from proxy.journal.codec import decode
from proxy.journal.errors import DamageError
from proxy.journal.files import Files
from proxy.journal.format import HEADER_BYTES
from proxy.journal.ledger import Ledger
from proxy.journal.records import Entry, Mark, Record
from proxy.journal.scan import Gap, Segment
from proxy.journal.stream import DURABLE, FILED, SegmentName, list_segments, read_cursor, segment_ends


@dataclass
class Recovered:
    """A stream's state. `damage` has a line for each stretch that was passed over; see the module for `lossy`."""

    path: Path
    durable: int = 0  # as the dead writer published it
    ledger: Ledger = field(default_factory=Ledger)
    end: int = 0
    damage: list[str] = field(default_factory=list)
    lossy: bool = False

    def passed_over(self, line: str, lsn: int) -> None:
        """Bytes at `lsn` are no record, though a record is behind them or was durable there."""
        self.damage.append(line)
        self.lossy |= lsn < self.durable


def recover(files: Files, path: Path) -> Recovered:
    """Recover the stream at `path`, whose lock the caller holds.

    Raises UnknownVersionError before anything is changed, if any segment is of a later version; OSError.
    """
    segments = list_segments(path)
    _check_versions(segments)
    found = Recovered(path, read_cursor(path / DURABLE))
    found.end = segments[0].base if segments else 0
    for name, void_from in zip(segments, segment_ends(segments), strict=True):
        _sync(files, name.path)
        _recover_segment(files, found, name, void_from)
    if segments:
        files.sync_dir(path)
    found.end = max(found.end, found.durable, read_cursor(path / FILED))
    return found


def _check_versions(segments: list[SegmentName]) -> None:
    for name in segments:
        try:
            Segment(name.path, forgiving=True).close()
        except DamageError:
            continue  # no record can be in it: the header is fsynced before the first


def _sync(files: Files, path: Path) -> None:
    fd = files.open(path, os.O_RDWR)
    try:
        files.fdatasync(fd)
    finally:
        files.close(fd)


def _recover_segment(files: Files, found: Recovered, name: SegmentName, void_from: int | None) -> None:
    try:
        segment = Segment(name.path, forgiving=True)
    except DamageError as error:
        if not _blank(name.path):
            found.passed_over(f"{name.path.name}: {error}", name.base)
        return
    with segment:
        limit = segment.end if void_from is None else min(void_from, segment.end)
        end = _scan(found, segment, limit)
        behind = min(limit, found.durable) if void_from is None else void_from  # that is past its end: one is missing
        if end < behind:
            found.passed_over(_gap(segment, end, behind), end)
        if segment.unreadable_to:
            end = max(end, segment.unreadable_to)
            found.lossy = True
        elif void_from is None and max(end, behind) < segment.end:
            _cut(files, segment, max(end, behind))
    found.end = max(found.end, end)


def _scan(found: Recovered, segment: Segment, limit: int) -> int:
    """Apply all valid records before `limit`; returns the LSN after the last of them."""
    end = segment.header.base
    for item in segment.walk(limit):
        end = item.next_lsn
        if isinstance(item, Gap):
            found.passed_over(_gap(segment, item.lsn, item.next_lsn), item.lsn)
            continue
        try:
            record = decode(item.kind, item.payload)
        except DamageError as error:
            found.passed_over(f"{segment.path.name}: LSN {item.lsn}: {error}", item.lsn)
            continue
        if record is not None:
            _apply(found, record, segment.header.seq, item.lsn)
    return end


def _blank(path: Path) -> bool:
    try:
        return not any(path.read_bytes())
    except OSError:
        return False


def _gap(segment: Segment, lsn: int, next_lsn: int) -> str:
    return f"{segment.path.name}: {next_lsn - lsn} bytes at LSN {lsn} are no record"


def _apply(found: Recovered, record: Record, seq: int, lsn: int) -> None:
    if isinstance(record, Entry):
        state = found.ledger.add(record, found.path.name)
        if state is not None:
            found.ledger.place(state, found.path.name, seq, lsn)
    elif isinstance(record, Mark) and record.moved_to:
        found.ledger.forget(record.id)
    else:
        found.ledger.apply(record)


def _cut(files: Files, segment: Segment, end: int) -> None:
    fd = files.open(segment.path, os.O_RDWR)
    try:
        files.ftruncate(fd, end - segment.header.base + HEADER_BYTES)
        files.fdatasync(fd)
    finally:
        files.close(fd)
