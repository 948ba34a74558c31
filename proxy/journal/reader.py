"""Reading the journal from another process: every record of every stream once, in order, as soon as it is durable.

The caller keeps the positions (the filer: in the transaction that files), gives them by `seek`, and publishes how
far it came by `publish_filed`. A reader takes no lock and writes nothing; segments and streams may vanish behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from proxy.journal import stream as streams
from proxy.journal.codec import decode
from proxy.journal.errors import DamageError, UnknownVersionError
from proxy.journal.records import Record
from proxy.journal.scan import Frame, Segment
from proxy.journal.stream import DURABLE, SegmentName, list_segments, list_streams, read_cursor


class Item(NamedTuple):
    """A record and its place: the next one begins at or after `next_lsn`."""

    stream: str
    lsn: int
    next_lsn: int
    record: Record


@dataclass
class Damage:
    """What a reader had to pass over: bytes that were no records."""

    places: int = 0
    bytes: int = 0


class StreamReader:
    """One stream's tail. `position` is the LSN to go on from; `refused` says why a stream cannot be read.

    Where the disk cannot read a page, `forgiving` passes it over as damage; else that is an OSError.
    """

    def __init__(self, path: Path, position: int = 0, *, forgiving: bool = False) -> None:
        self.path = path
        self._forgiving = forgiving
        self.position = position
        self.damage = Damage()
        self.refused = ""
        self._segment: Segment | None = None

    def close(self) -> None:
        """Idempotent."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def poll(self, max_records: int, max_bytes: int) -> list[Item]:
        """Records from `position` on that are durable: at most so many, and no more once so many bytes are read.

        Raises OSError if the disk does.
        """
        # In this order: a segment that holds anything before `durable` existed when that was published, so the
        # listing knows it, and knows from where on it replaces a failed one.
        durable = read_cursor(self.path / DURABLE)
        if durable <= self.position or self.refused:
            return []
        segments = list_segments(self.path)
        items: list[Item] = []
        size = 0
        while self.position < durable and len(items) < max_records and size < max_bytes:
            try:
                frame = self._next(segments, durable)
            except FileNotFoundError:  # the writer has deleted it since
                segments = list_segments(self.path)
                if not segments:
                    break
                continue
            except UnknownVersionError as error:
                self.refused = str(error)
                break
            if frame is None:
                continue
            try:
                record = decode(frame.kind, frame.payload)
            except DamageError:
                self._skipped(frame.next_lsn - frame.lsn)
                continue
            if record is not None:
                items.append(Item(self.path.name, frame.lsn, frame.next_lsn, record))
                size += len(frame.payload)
        return items

    def _next(self, segments: list[SegmentName], durable: int) -> Frame | None:
        """The record at `position`, which moves past it; None if only the position moved."""
        index = max(
            (i for i, segment in enumerate(segments) if segment.base <= self.position),
            default=-1,
        )
        if index < 0:  # deleted: all that was in it is settled, and filed by whoever owns the `filed` cursor
            self.position = min(segments[0].base, durable) if segments else durable
            return None
        limit = durable if index + 1 == len(segments) else min(durable, segments[index + 1].base)
        try:
            segment = self._open(segments[index])
        except DamageError:
            self._skipped(limit - self.position)
            self.position = limit
            return None
        frame = segment.frame(self.position, limit)
        if frame is not None:
            self.position = frame.next_lsn
            return frame
        found = segment.find(self.position + 1, limit)
        resume = limit if found is None else found
        self._skipped(resume - self.position)
        self.position = resume
        return None

    def _open(self, name: SegmentName) -> Segment:
        if self._segment is None or self._segment.path != name.path:
            self.close()
            self._segment = Segment(name.path, forgiving=self._forgiving)
        return self._segment

    def _skipped(self, size_bytes: int) -> None:
        self.damage.places += 1
        self.damage.bytes += size_bytes


class JournalReader:
    """All streams of a journal directory, new ones as they appear. Not thread-safe.

    A stream that nobody called `seek` for is read from its beginning. `forgiving` as in `StreamReader`.
    """

    def __init__(self, dir: Path, *, forgiving: bool = False) -> None:  # noqa: A002 - the name the other parts use
        self.dir = dir
        self._forgiving = forgiving
        self._readers: dict[str, StreamReader] = {}
        self._turn = 0

    def close(self) -> None:
        """Give the descriptors back; idempotent."""
        for reader in self._readers.values():
            reader.close()

    def streams(self) -> list[str]:
        """Names of the streams that exist now, oldest first."""
        return list_streams(self.dir)

    def is_live(self, stream: str) -> bool:
        """Whether the stream has a writer now."""
        return streams.is_live(self.dir / stream)

    def seek(self, stream: str, lsn: int) -> None:
        """Go on reading `stream` at `lsn` (a `next_lsn` of before)."""
        self._reader(stream).position = lsn

    def position(self, stream: str) -> int:
        """The LSN where `stream` is read next."""
        return self._reader(stream).position

    def unread_bytes(self) -> int:
        """Durable bytes, over all streams, that have not been read."""
        return sum(max(0, read_cursor(self.dir / name / DURABLE) - self.position(name)) for name in self.streams())

    def damage(self) -> dict[str, tuple[int, int]]:
        """By stream: (places, bytes) that had to be passed over."""
        return {
            name: (reader.damage.places, reader.damage.bytes)
            for name, reader in self._readers.items()
            if reader.damage.places
        }

    def refused(self) -> dict[str, str]:
        """By stream: why it cannot be read (a later version's format)."""
        return {name: reader.refused for name, reader in self._readers.items() if reader.refused}

    def poll(self, max_records: int = 500, max_bytes: int = 64 * 1024 * 1024) -> list[Item]:
        """What has become durable since: in each stream in order, the streams taking turns at being first.

        Never blocks; empty if there is nothing new. One record may exceed `max_bytes`. Raises OSError.
        """
        names = self.streams()
        for gone in self._readers.keys() - names:
            self._readers.pop(gone).close()
        self._turn += 1
        start = self._turn % len(names) if names else 0
        items: list[Item] = []
        for name in names[start:] + names[:start]:
            reader = self._reader(name)
            before = reader.position
            items += reader.poll(max_records - len(items), max_bytes)
            max_bytes -= reader.position - before
            if len(items) >= max_records or max_bytes <= 0:
                break
        return items

    def _reader(self, stream: str) -> StreamReader:
        if stream not in self._readers:
            path = self.dir / streams.check_name(stream)
            self._readers[stream] = StreamReader(path, forgiving=self._forgiving)
        return self._readers[stream]
