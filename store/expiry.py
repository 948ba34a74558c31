r"""Expiry: what has been in its folder for longer than the folder's retention goes, and the disk space comes back.

A pass is a series of small transactions (`steps`), so that filing goes on in between: entries first (a message goes
with its last entry), then whole segments in which nothing lives any more are unlinked, what lives in mostly dead ones
is carried over (`carrying.py`), and files that no row knows, left by a crash, are swept. Crash points:
`entries_expired`, `segment_row_deleted`.

No clock is believed blindly: expiry stops, until it is forced, if the wall clock has moved more than an hour against
the monotonic one, or if the last pass before a restart is more than two days ago.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from store import metrics
from store.carrying import Carrier
from store.entries import chunks, remove
from store.filing import BatchFiler, utc_day
from store.folders import FOLDERS
from store.lock import filer_lock
from store.quarantine import Quarantine
from store.schema import entries, folders, meta, segments
from store.segments import PATHS, FrameHeader, Gap, ends_s, walk
from store.settings import DAY_S
from store.uidvalidity import orphans_kept_ns
from store.whereabouts import located

BATCH_ENTRIES = 500
JUMP_S = 3600.0
GAP_S = 2 * DAY_S
_LAST_PASS = "last_expiry_ns"  # noqa: S105  # a name in `meta`

log = structlog.get_logger("filer")


class ExpiryBlocked(RuntimeError):
    """The clock is not to be believed; one line says why."""


def _boot_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # goes on while the machine sleeps


@dataclass(frozen=True, slots=True)
class Clock:
    """The two clocks: wall time (Unix, s), and one that nobody sets."""

    wall_s: Callable[[], float] = time.time
    steady_s: Callable[[], float] = _boot_s


@dataclass(frozen=True, slots=True)
class Due:
    """What an expiry pass would remove from a folder now; `held` stays though its time has come."""

    folder: str
    messages: int
    bytes: int
    held: int


class Expiry:
    """Expires one quarantine. Not thread-safe but for `due`; `filer` is its one writer of bytes."""

    def __init__(self, quarantine: Quarantine, filer: BatchFiler, clock: Clock | None = None) -> None:
        self._quarantine = quarantine
        self._index = quarantine.index
        self._filer = filer
        self._carrier = Carrier(quarantine, filer)
        self._clock = clock or Clock()
        self.retention = quarantine.settings.retention
        self.blocked = ""
        self._first = True
        self._base = (self._clock.wall_s(), self._clock.steady_s())

    def check_clock(self) -> None:
        """Raises ExpiryBlocked."""
        wall_s, steady_s = self._clock.wall_s(), self._clock.steady_s()
        jump_s = (wall_s - self._base[0]) - (steady_s - self._base[1])
        if abs(jump_s) > JUMP_S:
            self._block(f"the clock has moved by {jump_s:+.0f} s")
        if self._first:
            with self._index.read() as connection:
                found = connection.execute(
                    sa.select(meta.c.value).where(meta.c.name == _LAST_PASS)
                ).scalar_one_or_none()
            gap_s = 0.0 if found is None else wall_s - int(found) / 1e9
            if gap_s > GAP_S:
                self._block(f"the last pass was {gap_s / DAY_S:.1f} days ago")
            if gap_s < -JUMP_S:
                self._block(f"the last pass is {-gap_s:.0f} s in the future")
        self.blocked = ""
        metrics.EXPIRY_BLOCKED.set(0)

    def _block(self, why: str) -> None:
        if self.blocked != why:
            log.error("expiry_blocked", reason=why, hint="if the time is right: bouncetap expire --force")
        self.blocked = why
        metrics.EXPIRY_BLOCKED.set(1)
        raise ExpiryBlocked(f"{why}; if the time is right, use --force")

    def steps(self, *, force: bool = False) -> Iterator[int]:
        """One pass; each step is short, and tells how many entries it removed.

        Raises ExpiryBlocked at the first step unless `force`, OSError, SQLAlchemyError.
        """
        if force:
            self.blocked = ""
            metrics.EXPIRY_BLOCKED.set(0)
        else:
            self.check_clock()
        now_s = self._clock.wall_s()
        yield from self._entries(now_s)
        self._filer.segments.close_before(utc_day(now_s))
        yield from self._unlink_dead()
        yield from self._carrier.carry(now_s, self.retention)
        yield from self._unlink_dead()
        yield from self._sweep(now_s)
        while self._index.shrink():
            yield 0
        self._base = (self._clock.wall_s(), self._clock.steady_s())
        self._first = False
        with self._index.write() as connection:
            _set_meta(connection, _LAST_PASS, str(int(now_s * 1e9)))

    def due(self) -> list[Due]:
        """What a pass would remove now, by folder."""
        e, found = entries.c, []
        with self._index.read() as connection:
            for pk, name, cutoff_s in self._cutoffs(connection, self._clock.wall_s()):
                query = sa.select(e.flagged, sa.func.count(), sa.func.coalesce(sa.func.sum(e.shown_bytes), 0))
                query = query.where(e.folder_pk == pk, e.received_s <= cutoff_s).group_by(e.flagged)
                counts = {bool(held): (int(count), int(size)) for held, count, size in connection.execute(query)}
                going, staying = counts.get(False, (0, 0)), counts.get(True, (0, 0))
                if going[0] or staying[0]:
                    found.append(Due(name, *going, staying[0]))
        return found

    def _cutoffs(self, connection: Connection, now_s: float) -> list[tuple[int, str, int]]:
        """(pk, name, entries received then or before go) of all folders."""
        rows = connection.execute(sa.select(folders.c.pk, folders.c.name).order_by(folders.c.name)).all()
        return [(pk, name, int(now_s) - self.retention.for_folder(name)) for pk, name in rows]

    def _entries(self, now_s: float) -> Iterator[int]:
        e = entries.c
        with self._index.read() as connection:
            cutoffs = self._cutoffs(connection, now_s)
        for pk, name, cutoff_s in cutoffs:
            # The literal condition is the one of the partial index `ix_entries_expiry`.
            query = sa.select(e.uid).where(e.folder_pk == pk, sa.not_(e.flagged), e.received_s <= cutoff_s)
            query = query.order_by(e.received_s).limit(BATCH_ENTRIES)
            while True:
                with self._index.write() as connection:
                    uids = [uid for (uid,) in connection.execute(query)]
                    remove(connection, pk, sorted(uids))
                if uids:
                    self._filer.point("entries_expired")
                    metrics.EXPIRED.labels(name).inc(len(uids))
                    yield len(uids)
                if len(uids) < BATCH_ENTRIES:
                    break

    def _unlink_dead(self) -> Iterator[int]:
        """Files in which nothing lives: first the row goes, then the file; the sweep finds what a crash leaves."""
        with self._index.read() as connection:
            query = sa.select(segments.c.pk, segments.c.path).where(segments.c.live_messages == 0)
            dead = connection.execute(query).all()
        for pk, path in dead:
            with self._index.write() as connection:
                this = sa.and_(segments.c.pk == pk, segments.c.live_messages == 0)
                gone = connection.execute(sa.delete(segments).where(this)).rowcount
            if gone:
                self._filer.point("segment_row_deleted")
                self._filer.forget_segment(path)
                self._unlink(path)
            yield 0

    def _unlink(self, path: str) -> None:
        whole = self._quarantine.directory / path
        whole.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            whole.parent.rmdir()

    def _ends_s(self, path: str) -> float:
        """When (Unix, s) the time is over of all that a file may hold; 0 for one in a directory that is no day."""
        longest_s = max(map(self.retention.for_folder, FOLDERS))
        with contextlib.suppress(ValueError):
            return ends_s(path, self.retention, longest_s)
        return 0.0

    def _holds_unknown(self, file: Path) -> bool:
        """Whether a file holds messages that no row leads to."""
        torn = False
        with self._index.read() as connection:
            for piece in chunks(walk(file)):
                idents = []
                for found in piece:
                    if torn:  # what stands before a frame, and is none, was one
                        return True
                    torn = isinstance(found, Gap)
                    if isinstance(found, FrameHeader):
                        idents.append(found.id)
                known = located(connection, self._quarantine.directory, idents)
                if any(ident not in known or not known[ident].there for ident in idents):
                    return True
        return False

    def _sweep(self, now_s: float) -> Iterator[int]:
        """Unlink files that no row knows and nobody writes to, but not those that a lost index may have known.

        What a crash left has been filed anew meanwhile, elsewhere; whoever holds mail of which the index knows nothing
        stays for its time: the index may have been restored, and the mirror of UIDVALIDITYs with it.
        """
        with self._index.read() as connection:
            known = {path for (path,) in connection.execute(sa.select(segments.c.path))}
            kept_ns = orphans_kept_ns(connection)
        known |= self._filer.segments.open_paths
        for file in list(self._quarantine.directory.glob(PATHS)):
            path = f"{file.parent.name}/{file.name}"
            if path in known:
                continue
            stat = file.stat()
            if self._ends_s(path) > now_s and (stat.st_mtime_ns <= kept_ns or self._holds_unknown(file)):
                why = "it holds, or may hold, mail that the index does not know: bouncetap salvage"
                log.warning("orphan_segment_kept", path=path, reason=why)
                continue
            log.info("orphan_segment_removed", path=path, size_bytes=stat.st_size)
            self._unlink(path)
            yield 0


def _set_meta(connection: Connection, name: str, value: str) -> None:
    changed = connection.execute(sa.update(meta).where(meta.c.name == name).values(value=value))
    if not changed.rowcount:
        connection.execute(sa.insert(meta).values(name=name, value=value))


def expire_now(quarantine: Quarantine, *, force: bool) -> int:
    """One whole pass where no filer runs; returns how many entries went.

    Raises Locked, ExpiryBlocked, OSError, SQLAlchemyError.
    """
    with filer_lock(quarantine.settings.state_dir):
        filer = BatchFiler(quarantine)
        try:
            return sum(Expiry(quarantine, filer).steps(force=force))
        finally:
            filer.close()


def due_now(quarantine: Quarantine) -> list[Due]:
    """What a pass would remove now, by folder, whether a filer runs or not."""
    return Expiry(quarantine, BatchFiler(quarantine)).due()
