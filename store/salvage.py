r"""Salvage: mail that lies in the segments, and that the index does not lead to, is entered in the index again.

After an index was lost, restored from a backup or rescued in part, the bytes are in the segments all the same, and
expiry leaves them alone. Nothing is written but the index, and no file is deleted: a row is made that points to where
the frame lies, with the verdict, the annotation and the folder that it had. What is not in a frame is lost with the
index: the sender's host, parameters of MAIL and RCPT, what became of it later, flags, moves by hand, corrections.

| an id in a frame | the index | salvage |
|---|---|---|
| has no row | lost it | makes one, and shows it in its verdict's folder |
| has a row that no folder shows | was rescued in part | makes the row anew |
| has a row whose file is gone | is older than the file that carries it now | lets the row point here |
| has a row, a file and a folder | is right | leaves it alone |

Which files: those last written before the index was found to have gone back in time (`uidvalidity.py`); of files that
have a row, what lies behind all that the row counts, or all if fewer messages are known to live there than it says.
Files of the class `held` come first, and are held again, as is whatever is past its segment's time: it had been moved,
or held, or it would not be on disk. A file is dealt with in batches, each one transaction; the last one notes how far
it was read. Where it dies in between, the next run passes over what is known by then.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from proxy.journal.files import Files
from proxy.journal.ids import time_ns
from proxy.journal.records import Entry
from store.annotate import read as read_annotation
from store.carrying import HELD
from store.entries import chunks
from store.filing import BatchFiler, Filing, utc_day
from store.index import IndexUnusable
from store.lock import filer_lock
from store.outcomes import Outcomes
from store.prepare import Job, Kept, job_for, verdict_from
from store.quarantine import Quarantine
from store.schema import entries, messages, recipients, segments
from store.segments import (
    FIRST_FRAME,
    PATHS,
    DamagedFrame,
    Frame,
    FrameHeader,
    Gap,
    Place,
    class_of,
    ends_s,
    read,
    walk,
)
from store.settings import StoreSettings
from store.uidvalidity import Mirror, orphans_kept_ns
from store.whereabouts import Located, located
from store.workers import Worker, Workers

BATCH_MESSAGES, BATCH_BYTES = 500, 16 * 1024 * 1024
ROOM_BYTES = 64 * 1024 * 1024  # for the index and its WAL
_ODD = (DamagedFrame, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What was found in one file: frames that the index did not lead to, how many of them were entered and held.

    `unreadable` frames and gaps between frames (bytes that are none) stay as they are, as does what is no frame at the
    end: a crash leaves such, and so does whatever cuts a file short. `error` says why the file was given up.
    """

    path: str
    missing: int
    entered: int = 0
    held: int = 0
    unreadable: int = 0
    gaps_bytes: int = 0
    tail_bytes: int = 0
    error: str = ""

    @property
    def damaged(self) -> bool:
        """Whether something could not be read."""
        return bool(self.unreadable or self.gaps_bytes or self.error)


def lost_ns(quarantine: Quarantine) -> int:
    """When (Unix, ns) the index was found to be new, or older than what was made with it. Raises SQLAlchemyError."""
    with quarantine.index.read() as connection:
        return orphans_kept_ns(connection)


def salvage_now(
    quarantine: Quarantine,
    workers: Workers,
    *,
    everything: bool = False,
    dry_run: bool = False,
    files: Files | None = None,
) -> Iterator[Salvaged]:
    """Enter what the index does not lead to, file by file, where no filer runs; `dry_run` only counts.

    `everything`: files written since the index was lost, too. Raises Locked, IndexUnusable (it is damaged), OSError
    (no room), SQLAlchemyError, WorkerUnusable; run it again then.
    """
    with filer_lock(quarantine.settings.state_dir):
        _check_index(quarantine)
        before_ns = time.time_ns() if everything else lost_ns(quarantine)
        filer = BatchFiler(quarantine, files)
        try:
            paths = [f"{file.parent.name}/{file.name}" for file in quarantine.directory.glob(PATHS)]
            for path in sorted(paths, key=lambda path: (class_of(path) != HELD, path)):
                try:
                    if (quarantine.directory / path).stat().st_mtime_ns > before_ns:
                        continue
                    file = _look(quarantine, path)
                    done = _count(quarantine, file) if dry_run else _salvage(quarantine, file, filer, workers)
                except _NoRoom:
                    raise
                except (OSError, ValueError) as error:  # ValueError: its directory is no day
                    done = Salvaged(path, 0, error=str(error))
                if done.missing or done.damaged:
                    yield done
            if not dry_run:
                with quarantine.index.write() as connection:  # what led to one file may lead to another now
                    _recount(connection, sa.true())
                Mirror(quarantine.index, quarantine.settings.state_dir).write()
        finally:
            filer.close()


class _NoRoom(OSError):
    """The disk has no room for more rows."""


@dataclass(frozen=True, slots=True)
class _File:
    """A segment: what in it the index does not lead to, and how it was counted. `end` is behind its last frame."""

    path: str
    missing: list[FrameHeader]
    rows: dict[str, Located]  # of the missing ones that have a row
    gaps_bytes: int
    tail_bytes: int
    end: int
    over: bool  # past its time


@dataclass(frozen=True, slots=True)
class _Found:
    """A frame, where it lies, and what it tells of how it came."""

    frame: Frame
    place: Place
    entry: Entry
    outcomes: Outcomes


def _check_index(quarantine: Quarantine) -> None:
    if not quarantine.index.is_sqlite:
        return
    with quarantine.index.read() as connection:
        (first,) = connection.exec_driver_sql("PRAGMA integrity_check(1)").first() or ("",)
    if first != "ok":
        raise IndexUnusable(f"the index is damaged ({first}): rescue it, restore it or begin with none first")


def _look(quarantine: Quarantine, path: str) -> _File:
    s, m = segments.c, messages.c
    shown = sa.exists().where(entries.c.message_pk == m.pk)
    lives = sa.select(sa.func.count()).where(m.segment_pk == s.pk, shown).scalar_subquery()
    with quarantine.index.read() as connection:
        row = connection.execute(sa.select(s.written_bytes, s.live_messages, lives).where(s.path == path)).one_or_none()
        complete = row is not None and row[1] == row[2]
        start = FIRST_FRAME + (row[0] if row is not None and complete else 0)
        end, gaps_bytes, trailing = start, 0, 0
        missing: dict[str, FrameHeader] = {}
        rows: dict[str, Located] = {}
        for piece in chunks(walk(quarantine.directory / path, start)):
            headers = [found for found in piece if isinstance(found, FrameHeader)]
            known = located(connection, quarantine.directory, (header.id for header in headers))
            for found in piece:
                if isinstance(found, Gap):
                    trailing = found.size_bytes
                    continue
                gaps_bytes, trailing, end = gaps_bytes + trailing, 0, found.offset + found.size_bytes
                old = known.get(found.id)
                if old is None or not (old.there and old.shown):
                    missing.setdefault(found.id, found)  # behind damage, mail may be what looks like a frame
                    rows |= {found.id: old} if old is not None else {}
    over = class_of(path) == HELD or ends_s(path, quarantine.settings.retention, 0) <= time.time()
    return _File(path, list(missing.values()), rows, gaps_bytes, trailing, end, over)


def _count(quarantine: Quarantine, file: _File) -> Salvaged:
    """What is there, without entering it."""
    readable = sum(_found(quarantine, file.path, header) is not None for header in file.missing)
    return _told(file, readable)


def _salvage(quarantine: Quarantine, file: _File, filer: BatchFiler, workers: Workers) -> Salvaged:
    entered = 0
    for headers in _batches(file.missing):
        _check_room(quarantine.settings)
        found = [one for header in headers if (one := _found(quarantine, file.path, header))]
        jobs = [_job(one, quarantine.settings) for one in found]
        made = workers.submit(partial(Worker.prepare, jobs=jobs)).result()
        filings = [
            Filing(one.entry, one.frame.original, prepared, one.outcomes, held=file.over)
            for one, prepared in zip(found, made, strict=True)
        ]
        entered += filer.adopt(filings, [one.place for one in found], partial(_make_way, file=file, filer=filer))
    if file.missing:
        with quarantine.index.write() as connection:
            read_through = {"written_bytes": file.end - FIRST_FRAME}
            connection.execute(sa.update(segments).where(segments.c.path == file.path).values(read_through))
            _recount(connection, segments.c.path == file.path)
        filer.point("salvaged")
    return _told(file, entered)


def _job(one: _Found, settings: StoreSettings) -> Job:
    frame = one.frame
    return job_for(one.entry, frame.original, one.outcomes.legacy, settings, Kept(frame.annotation, frame.verdict))


def _told(file: _File, entered: int) -> Salvaged:
    missing, held = len(file.missing), entered if file.over else 0
    return Salvaged(file.path, missing, entered, held, missing - entered, file.gaps_bytes, file.tail_bytes)


def _make_way(connection: Connection, filing: Filing, place: Place, *, file: _File, filer: BatchFiler) -> bool:
    """Deal with a row that leads nowhere; tells whether a new one is to be made."""
    row = file.rows.get(filing.entry.id)
    if row is None:
        return True
    if row.shown and row.sha256 == filing.prepared.sha256:
        new = {"frame_offset": place.offset, "frame_bytes": place.size_bytes}
        new["segment_pk"] = filer.segment_pk(connection, place.path)
        connection.execute(sa.update(messages).where(messages.c.pk == row.pk).values(new))
        return False
    connection.execute(sa.delete(recipients).where(recipients.c.message_pk == row.pk))
    connection.execute(sa.delete(messages).where(messages.c.pk == row.pk))
    return True


def _recount(connection: Connection, which: sa.ColumnElement[bool]) -> None:
    """Let segments' rows say what lives there."""
    s, m = segments.c, messages.c
    here = m.segment_pk == s.pk
    count = sa.select(sa.func.count()).where(here).scalar_subquery()
    size = sa.select(sa.func.coalesce(sa.func.sum(m.frame_bytes), 0)).where(here).scalar_subquery()
    connection.execute(sa.update(segments).where(which).values(live_messages=count, live_bytes=size))


def _check_room(settings: StoreSettings) -> None:
    """The journal's reserve is the journal's. Raises OSError."""
    free, wanted = shutil.disk_usage(settings.state_dir).free, settings.reserve_bytes + ROOM_BYTES
    if free < wanted:
        text = f"{free} bytes are free and {wanted} are needed: [journal] reserve, and room for the index"
        raise _NoRoom(errno.ENOSPC, text, str(settings.state_dir))


def _batches(headers: list[FrameHeader]) -> Iterator[list[FrameHeader]]:
    batch: list[FrameHeader] = []
    size_bytes = 0
    for header in headers:
        if batch and (len(batch) >= BATCH_MESSAGES or size_bytes + header.original_bytes > BATCH_BYTES):
            yield batch
            batch, size_bytes = [], 0
        batch.append(header)
        size_bytes += header.original_bytes
    if batch:
        yield batch


def _found(quarantine: Quarantine, path: str, header: FrameHeader) -> _Found | None:
    """The frame there, if it is wholly what was written. Raises OSError."""
    place = Place(path, header.offset, header.size_bytes)
    try:
        frame = read(quarantine.directory, place)
        if hashlib.sha256(frame.original).hexdigest() != json.loads(frame.verdict)["sha256"]:
            return None
        verdict_from(frame.verdict)
        facts = read_annotation(frame.annotation)
        received_ns = _received_ns(frame.id, path)
    except _ODD:
        return None
    entry = Entry(
        id=frame.id,
        received_ns=received_ns,
        peer="",
        helo=b"",
        tls="",
        mail_arg=b"<%b>" % facts.return_path.encode(),
        rcpt_args=tuple(b"<%b>" % address.encode() for address in facts.envelope_to),
        wire=b"",  # it is for those who read the journal
        digest=b"",
    )
    return _Found(frame, place, entry, Outcomes(len(entry.rcpt_args), salvaged=facts.legacy))


def _received_ns(ident: str, path: str) -> int:
    """When it came: its id tells, unless the clock was wrong then, which its segment's day shows."""
    at_ns, day = time_ns(ident), path.partition("/")[0]
    if class_of(path) == HELD or utc_day(at_ns / 1e9) == day:
        return at_ns
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 10**9
