"""Filing a batch: segment append, fdatasync, one index transaction. A message is in the quarantine once, or not yet.

Whatever dies in between: before the commit there are only bytes that no row points to; after it the journal's
cursor, committed with the rows, says that the messages need not be read again. Where a batch is tried anew, the
UNIQUE journal id keeps the second try out. Crash points, each tested with a kill -9: `segment_appended`,
`segment_synced`, `index_committed`, `published`.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from proxy.journal.files import Files
from proxy.journal.records import Entry, Mark
from store import outcomes as fates
from store.entries import chunks, raise_counters
from store.folders import joined
from store.outcomes import Outcomes
from store.prepare import Prepared, clean
from store.quarantine import Quarantine
from store.schema import entries, folders, messages, recipients, segments, stream_cursors
from store.segments import Frame, Place, SegmentWriter, class_of, retention_class


@dataclass(frozen=True, slots=True)
class Filing:
    """One message to file: as it came, what was made of its bytes, its fate so far; `held` past its expiry or not."""

    entry: Entry
    original: bytes
    prepared: Prepared
    outcomes: Outcomes
    held: bool = False


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a stream is filed: all before `lsn`, and the entries at the LSNs in `ahead`."""

    lsn: int
    ahead: tuple[int, ...] = ()


class BatchFiler:
    """The one writer of message bytes. Not thread-safe; the caller holds the filer's lock."""

    def __init__(self, quarantine: Quarantine, files: Files | None = None) -> None:
        self._index = quarantine.index
        self._files = files or Files()
        self.segments = SegmentWriter(quarantine.directory, quarantine.settings.segment_bytes, self._files)
        self._segment_pks: dict[str, int] = {}
        self._folder_pks: dict[str, int] = {}
        self._failed = False

    def close(self) -> None:
        """Closes the segments."""
        self.segments.close()

    def file(
        self, filings: Sequence[Filing], marks: Sequence[Mark] = (), cursors: Mapping[str, Cursor] | None = None
    ) -> int:
        """File what is not filed yet, bring others up to date, move the cursors; returns how many were new.

        All of it is durable on return. Raises OSError, SQLAlchemyError: then none of it counts, and the same call
        may be repeated.
        """
        try:
            if self._failed:  # ask whether the index can be written at all, before bytes are written in vain again
                with self._index.write():
                    pass
            count = self._file(filings, marks, cursors or {})
        except BaseException:
            self._failed = True
            self.abandon()
            raise
        self._failed = False
        return count

    def _file(self, filings: Sequence[Filing], marks: Sequence[Mark], cursors: Mapping[str, Cursor]) -> int:
        with self._index.read() as connection:
            known = _known(connection, (filing.entry.id for filing in filings))
        new = list({f.entry.id: f for f in filings if f.entry.id not in known}.values())
        places = [self._append(filing) for filing in new]
        if new:
            self.segments.sync()
        with self._index.write() as connection:
            self._insert(connection, new, places)
            fates.update(connection, marks)
            _store_cursors(connection, cursors)
        self._files.point("index_committed")
        still_open = self.segments.open_paths
        self._segment_pks = {path: pk for path, pk in self._segment_pks.items() if path in still_open}
        return len(new)

    def adopt(
        self,
        filings: Sequence[Filing],
        places: Sequence[Place],
        wanted: Callable[[Connection, Filing, Place], bool],
    ) -> int:
        """Enter messages whose bytes lie at `places` already, unless `wanted` does what there is to do for one.

        One transaction; returns how many messages were dealt with. Raises SQLAlchemyError.
        """
        try:
            with self._index.write() as connection:
                pairs = [pair for pair in zip(filings, places, strict=True) if wanted(connection, *pair)]
                self._insert(connection, [filing for filing, _ in pairs], [place for _, place in pairs])
        except BaseException:
            self.abandon()
            raise
        self._files.point("adopted")
        return len(filings)

    def _append(self, filing: Filing) -> Place:
        day = utc_day(filing.entry.received_ns / 1e9)
        made = filing.prepared
        frame = Frame(filing.entry.id, made.annotation, filing.original, made.verdict)
        return self.segments.append(day, retention_class(made.folder), frame)

    def _insert(self, connection: Connection, filings: list[Filing], places: list[Place]) -> None:
        if not filings:
            return
        now_ns = time.time_ns()
        segment_pks = self._count_segments(connection, places)
        rows = [_row(f, p, segment_pks[p.path], now_ns) for f, p in zip(filings, places, strict=True)]
        connection.execute(sa.insert(messages), rows)
        pks = _known(connection, (filing.entry.id for filing in filings))
        people = [
            {"message_pk": pks[filing.entry.id], **person} for filing in filings for person in filing.prepared.people
        ]
        if people:
            connection.execute(sa.insert(recipients), people)
        by_folder: dict[str, list[Filing]] = {}
        for filing in filings:
            by_folder.setdefault(filing.prepared.folder, []).append(filing)
        for folder in sorted(by_folder):  # always in this order: no two writers wait for each other
            self._show(connection, folder, by_folder[folder], pks)

    def _show(self, connection: Connection, folder: str, filings: list[Filing], pks: dict[str, int]) -> None:
        if folder not in self._folder_pks:
            query = sa.select(folders.c.pk).where(folders.c.name == folder)
            self._folder_pks[folder] = connection.execute(query).scalar_one()
        pk = self._folder_pks[folder]
        uid, modseq = raise_counters(connection, pk, uids=len(filings), messages_by=len(filings))
        rows = [
            {
                "folder_pk": pk,
                "uid": uid + number,
                "message_pk": pks[filing.entry.id],
                "received_s": filing.entry.received_ns // 10**9,
                "shown_bytes": len(filing.prepared.annotation) + len(filing.original),
                "modseq": modseq,
                "flagged": filing.held,
                "keywords": joined({*filing.prepared.keywords.split(), *filing.outcomes.keywords}),
            }
            for number, filing in enumerate(filings)
        ]
        connection.execute(sa.insert(entries), rows)

    def _count_segments(self, connection: Connection, places: list[Place]) -> dict[str, int]:
        """Enter the frames into their segments' rows; returns the rows' pks by path."""
        totals: dict[str, tuple[int, int]] = {}
        for place in places:
            count, size = totals.get(place.path, (0, 0))
            totals[place.path] = (count + 1, size + place.size_bytes)
        pks = {path: self.segment_pk(connection, path) for path in sorted(totals)}
        for path, (count, size) in sorted(totals.items()):
            count_in(connection, pks[path], count, size)
        return pks

    def segment_pk(self, connection: Connection, path: str) -> int:
        """The row of a segment: a new one at its first commit."""
        if path not in self._segment_pks:
            query = sa.select(segments.c.pk).where(segments.c.path == path)
            if (known := connection.execute(query).scalar_one_or_none()) is not None:
                self._segment_pks[path] = int(known)
                return int(known)
            row = {
                "path": path,
                "day": path.partition("/")[0],
                "retention_class": class_of(path),
                "created_ns": time.time_ns(),
                "live_messages": 0,
                "live_bytes": 0,
                "written_bytes": 0,
            }
            made = connection.execute(sa.insert(segments).values(row).returning(segments.c.pk))
            self._segment_pks[path] = int(made.scalar_one())
        return self._segment_pks[path]

    def point(self, name: str) -> None:
        """A named crash point has been reached: tests die here."""
        self._files.point(name)

    def forget_segment(self, path: str) -> None:
        """End a segment whose row has gone."""
        self.segments.close_path(path)
        self._segment_pks.pop(path, None)

    def abandon(self) -> None:
        """After a failure: end all segments; what of them was not committed is swept with its file."""
        with contextlib.suppress(OSError):
            self.segments.abandon()
        self._segment_pks.clear()


def utc_day(at_s: float) -> str:
    """YYYY-MM-DD of a Unix time."""
    return datetime.fromtimestamp(at_s, UTC).date().isoformat()


def count_in(connection: Connection, segment_pk: int, count: int, size_bytes: int) -> None:
    """`count` more messages lie, and live, in a segment."""
    c = segments.c
    values = {"live_messages": c.live_messages + count, "live_bytes": c.live_bytes + size_bytes}
    connection.execute(
        sa.update(segments).where(c.pk == segment_pk).values(written_bytes=c.written_bytes + size_bytes, **values)
    )


def _known(connection: Connection, ids: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for piece in chunks(ids):
        query = sa.select(messages.c.id, messages.c.pk).where(messages.c.id.in_(piece))
        found |= dict(connection.execute(query).all())
    return found


def _row(filing: Filing, place: Place, segment_pk: int, now_ns: int) -> dict[str, object]:
    entry, made, outcomes = filing.entry, filing.prepared, filing.outcomes
    return {
        "id": entry.id,
        "received_ns": entry.received_ns,
        "filed_ns": now_ns,
        "sha256": made.sha256,
        "size_bytes": len(filing.original),
        "segment_pk": segment_pk,
        "frame_offset": place.offset,
        "frame_bytes": place.size_bytes,
        "annotation_bytes": len(made.annotation),
        "kind": made.kind,
        "category": made.category,
        "reason": made.reason,
        "confidence": made.confidence,
        "unparsable": made.unparsable,
        "opt_out": made.opt_out,
        "envelope_from": made.envelope_from,
        "envelope_to": json.dumps(made.envelope_to, ensure_ascii=False),
        "mail_arg": entry.mail_arg,
        "rcpt_args": b"\n".join(entry.rcpt_args),
        "peer": clean(entry.peer),
        "helo": clean(entry.helo.decode("utf-8", "backslashreplace")),
        "answered": outcomes.answered,
        "fate": outcomes.fate,
        "legacy": clean(outcomes.legacy),
        "outcomes": outcomes.to_json(),
        "imap_envelope": made.imap_envelope,
        "imap_bodystructure": made.imap_bodystructure,
        "header_bytes": made.header_bytes,
    }


def _store_cursors(connection: Connection, cursors: Mapping[str, Cursor]) -> None:
    now_ns = time.time_ns()
    for stream, cursor in sorted(cursors.items()):
        values = {"lsn": cursor.lsn, "ahead": json.dumps(cursor.ahead), "updated_ns": now_ns}
        this = stream_cursors.c.stream == stream
        if not connection.execute(sa.update(stream_cursors).where(this).values(values)).rowcount:
            connection.execute(sa.insert(stream_cursors).values(stream=stream, **values))


def load_cursors(connection: Connection) -> dict[str, Cursor]:
    """Where each stream is to be read on."""
    rows = connection.execute(sa.select(stream_cursors.c.stream, stream_cursors.c.lsn, stream_cursors.c.ahead))
    return {stream: Cursor(lsn, tuple(json.loads(ahead))) for stream, lsn, ahead in rows}
