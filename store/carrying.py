r"""Carrying over: what still lives in a mostly dead segment goes to a new one, and the old one can be unlinked.

Past a segment's time that is what is held by `\Flagged`, or was moved to another folder; before it, what analysts left
over. One transaction with the rows that point to the frames; the old file's unlink comes after it. Crash points:
`carried`, and those of appending.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa
import structlog

from store import segments as files
from store.entries import take_off
from store.filing import BatchFiler, count_in, utc_day
from store.quarantine import Quarantine
from store.schema import messages, segments
from store.segments import DamagedFrame, Place, ends_s
from store.settings import Retention

CARRY_MESSAGES, CARRY_BYTES = 100, 16 * 1024 * 1024
HELD = "held"  # the retention class of what outlived its segment's time

log = structlog.get_logger("filer")


@dataclass(frozen=True, slots=True)
class _Source:
    """A segment whose living messages are carried over, and the day and class of the one that takes them."""

    pk: int
    path: str
    to_day: str
    to_class: str


class Carrier:
    """Carries for one quarantine. Not thread-safe; `filer` is the one writer of bytes."""

    def __init__(self, quarantine: Quarantine, filer: BatchFiler) -> None:
        self._directory = quarantine.directory
        self._index = quarantine.index
        self._filer = filer

    def carry(self, now_s: float, retention: Retention) -> Iterator[int]:
        """Move what lives in mostly dead segments: past their time when a quarter is dead, before it three quarters.

        Each step is short. Raises OSError, SQLAlchemyError.
        """
        c = segments.c
        query = sa.select(c.pk, c.path, c.day, c.retention_class, c.live_bytes * 4 < c.written_bytes)
        query = query.where(c.live_messages > 0, c.live_bytes * 4 < c.written_bytes * 3).order_by(c.pk)
        with self._index.read() as connection:
            rows = connection.execute(query).all()
        for pk, path, day, kept, sparse in rows:
            over = ends_s(path, retention, 0) <= now_s
            if path in self._filer.segments.open_paths or not (over or sparse):
                continue
            source = _Source(pk, path, *((utc_day(now_s), HELD) if over else (day, kept)))
            at = 0
            while (reached := self._carry_some(source, at)) > at:
                at = reached
                yield 0

    def _carry_some(self, source: _Source, start: int) -> int:
        """Carry a few of a segment's messages over, those at `start` and later; returns where to go on.

        What cannot be read stays where it is: it must not keep everything else on disk.
        """
        m = messages.c
        query = sa.select(m.pk, m.frame_offset, m.frame_bytes)
        query = query.where(m.segment_pk == source.pk, m.frame_offset >= start)
        with self._index.read() as connection:
            rows = connection.execute(query.order_by(m.frame_offset).limit(CARRY_MESSAGES)).all()
        moved: list[tuple[int, int, int, Place]] = []
        unreadable, size = 0, 0
        try:
            for pk, offset, frame_bytes in rows:
                if moved and size + frame_bytes > CARRY_BYTES:
                    break
                start = offset + frame_bytes
                try:
                    frame = files.read(self._directory, Place(source.path, offset, frame_bytes))
                except (OSError, DamagedFrame):
                    unreadable += 1
                    continue
                size += frame_bytes
                place = self._filer.segments.append(source.to_day, source.to_class, frame)
                moved.append((pk, offset, frame_bytes, place))
            if moved:
                self._filer.segments.sync()
                self._repoint(source, moved)
                self._filer.point("carried")
        except BaseException:
            self._filer.abandon()
            raise
        if unreadable:
            log.error("held_messages_unreadable", path=source.path, messages=unreadable)
        return start

    def _repoint(self, source: _Source, moved: list[tuple[int, int, int, Place]]) -> None:
        """Let the rows that still point to the old frames point to the new ones, which lie in one file or two."""
        m = messages.c
        with self._index.write() as connection:
            new_pks = {p.path: self._filer.segment_pk(connection, p.path) for *_, p in moved}
            for pk, offset, frame_bytes, place in moved:
                this = sa.and_(m.pk == pk, m.segment_pk == source.pk, m.frame_offset == offset)
                new = {"frame_offset": place.offset, "frame_bytes": place.size_bytes}
                new["segment_pk"] = new_pks[place.path]
                count_in(connection, new_pks[place.path], 1, place.size_bytes)
                if connection.execute(sa.update(messages).where(this).values(new)).rowcount:
                    take_off(connection, source.pk, 1, frame_bytes)
                else:  # it went meanwhile: nothing lives in the new place either
                    take_off(connection, new_pks[place.path], 1, place.size_bytes)
