"""Looking inside a journal without being its writer: `bouncetap journal ls|show|verify`.

Read-only, takes no lock, may run while writers live: of a live stream everything up to `durable` is looked at, of an
orphaned one everything that is valid.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from proxy.journal.codec import decode
from proxy.journal.errors import DamageError, UnknownVersionError
from proxy.journal.records import FINAL, Entry, Fate, Mark, Record
from proxy.journal.scan import Gap, Segment
from proxy.journal.stream import (
    DURABLE,
    FILED,
    check_name,
    is_live,
    list_segments,
    list_streams,
    read_cursor,
    segment_ends,
)


@dataclass
class Summary:
    """One entry and what became of it, without its body. `moved_to`: its later marks are with a copy there."""

    stream: str
    lsn: int
    id: str
    received_ns: int
    mail_arg: bytes
    rcpt_args: tuple[bytes, ...]
    size_bytes: int
    refused: str
    copied_from: str
    fates: list[Fate]
    answered: int | None = None
    moved_to: str = ""

    @property
    def settled(self) -> bool:
        """As in the package docstring, S6 to S10."""
        if self.refused or self.moved_to:
            return True
        if self.answered is None:
            return False
        return 400 <= self.answered < 500 or all(fate in FINAL for fate in self.fates)


@dataclass
class StreamReport:
    """What `verify` found. `damage`: stretches before valid records that are none; `refused`: a later version."""

    name: str
    live: bool
    durable: int
    filed: int
    segments: int = 0
    bytes: int = 0
    entries: int = 0
    marks: int = 0
    damage: list[str] = field(default_factory=list)
    refused: str = ""


@dataclass(frozen=True, slots=True)
class _Found:
    lsn: int
    record: Record


def verify(journal: Path) -> list[StreamReport]:
    """Read every record of every stream. Raises OSError."""
    return [_verify(journal / name) for name in list_streams(journal)]


def ls(journal: Path, stream: str | None = None) -> Iterator[Summary]:
    """All entries that are still there, stream by stream, in the order they came. Raises OSError."""
    for name in [check_name(stream)] if stream else list_streams(journal):
        summaries: dict[str, Summary] = {}
        for found in _records(StreamReport(name, False, 0, 0), journal / name):
            _note(summaries, name, found)
        yield from summaries.values()


def find(journal: Path, ident: str) -> tuple[Entry, list[Mark]] | None:
    """An entry by id, its first copy if there are several, and all marks about it, oldest first; None: not there."""
    entry: Entry | None = None
    marks: list[Mark] = []
    for name in list_streams(journal):
        for found in _records(StreamReport(name, False, 0, 0), journal / name):
            record = found.record
            if record.id != ident:
                continue
            if isinstance(record, Mark):
                marks.append(record)
            elif entry is None or not record.copied_from:
                entry = record
    marks.sort(key=lambda mark: mark.at_ns)
    return None if entry is None else (entry, marks)


def _verify(path: Path) -> StreamReport:
    report = StreamReport(path.name, is_live(path), read_cursor(path / DURABLE), read_cursor(path / FILED))
    for found in _records(report, path):
        if isinstance(found.record, Entry):
            report.entries += 1
        else:
            report.marks += 1
    return report


def _records(report: StreamReport, path: Path) -> Iterator[_Found]:
    live = is_live(path)
    durable = read_cursor(path / DURABLE)
    segments = list_segments(path)
    for name, end in zip(segments, segment_ends(segments), strict=True):
        try:
            with Segment(name.path, forgiving=True) as segment:
                limit = min(segment.end, segment.end if end is None else end)
                if live:
                    limit = min(limit, durable)
                report.segments += 1
                report.bytes += name.path.stat().st_blocks * 512
                yield from _walk(report, segment, limit)
        except FileNotFoundError:  # deleted while we looked
            continue
        except UnknownVersionError as error:
            report.refused = str(error)
        except DamageError as error:
            report.damage.append(f"{name.path.name}: {error}")


def _walk(report: StreamReport, segment: Segment, limit: int) -> Iterator[_Found]:
    for item in segment.walk(limit):
        if isinstance(item, Gap):
            size = item.next_lsn - item.lsn
            report.damage.append(f"{segment.path.name}: {size} bytes at LSN {item.lsn} are no record")
            continue
        try:
            record = decode(item.kind, item.payload)
        except DamageError as error:
            report.damage.append(f"{segment.path.name}: LSN {item.lsn}: {error}")
            continue
        if record is not None:
            yield _Found(item.lsn, record)


def _note(summaries: dict[str, Summary], stream: str, found: _Found) -> None:
    record = found.record
    if isinstance(record, Entry):
        summaries[record.id] = Summary(
            stream,
            found.lsn,
            record.id,
            record.received_ns,
            record.mail_arg,
            record.rcpt_args,
            len(record.wire),
            record.refused,
            record.copied_from,
            [Fate.OPEN] * len(record.rcpt_args),
        )
        return
    summary = summaries.get(record.id)
    if summary is None:
        return
    if record.fate is not None:
        for rcpt in record.rcpts:
            if rcpt < len(summary.fates):
                summary.fates[rcpt] = record.fate
    if record.answered is not None:
        summary.answered = record.answered
    summary.moved_to = record.moved_to or summary.moved_to
