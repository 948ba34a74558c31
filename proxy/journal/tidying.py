"""Keeping the disk tidy: segments whose entries are settled and filed go, what stays open long is copied forward.

Only the oldest segments of a stream are deleted, one after the other: a later one may hold the very marks that settle
an earlier one's entries. A copy is made only where it frees much more than it writes. A stream in which acknowledged
mail cannot be read stays as it is until an operator moves it away.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from itertools import pairwise

from proxy.journal.codec import encode_entry
from proxy.journal.errors import JournalError
from proxy.journal.files import Files
from proxy.journal.log import StreamLog
from proxy.journal.pipeline import Pipeline, quiet_future
from proxy.journal.stream import FILED, SegmentName, read_cursor, remove_stream

_COPY_BATCH = 500
_COPY_GAIN = 4  # copy only where it frees at least this many times what it writes


class Tidying:
    """One stream at a time, and one caller at a time."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def tidy(self, log: StreamLog) -> None:
        """Delete what may go of a stream, or copy what pins it. Raises OSError, JournalError."""
        pipeline = self._pipeline
        if log.lossy:
            return
        filed = await asyncio.to_thread(read_cursor, log.path / FILED)
        for segment in self._deletable(log, filed):
            await pipeline.committer.call(lambda segment=segment: log.drop_segment(segment))  # type: ignore[misc]
        if self._removable(log, filed):
            pipeline.let_go(log)
            await pipeline.committer.call(lambda: _remove(pipeline.files, log))
            return
        for ident in self._pinning(log, filed):
            await self._copy_forward(ident)

    def _deletable(self, log: StreamLog, filed: int) -> list[SegmentName]:
        """The longest run of oldest segments in which all is settled and filed."""
        gone = []
        busy = self._pipeline.busy(log)
        for segment, following in pairwise(log.segments.copy()):
            pinned = self._pipeline.ledger.pinned_by(log.name, segment.seq) or segment.seq in busy
            if pinned or following.base > filed:
                break
            gone.append(segment)
        return gone

    def _removable(self, log: StreamLog, filed: int) -> bool:
        pipeline = self._pipeline
        return (
            log is not pipeline.own
            and not pipeline.busy(log)
            and not pipeline.ledger.holds(log.name)
            and filed >= log.durable
        )

    def _pinning(self, log: StreamLog, filed: int) -> list[str]:
        """Ids in the oldest segment that are long open, if copying them frees much more than it costs."""
        pipeline = self._pipeline
        segments = log.segments.copy()
        closed = segments if log is not pipeline.own else segments[:-1]
        if not closed or pipeline.no_room(0):
            return []
        ids = pipeline.ledger.pinned_by(log.name, closed[0].seq)
        states = [pipeline.ledger.states[ident] for ident in ids]
        end = segments[1].base if len(segments) > 1 else log.durable
        old = time.time_ns() - int(pipeline.settings.copy_forward_after_s * 1e9)
        if end > filed or any(state.answered is None or state.received_ns > old for state in states):
            return []
        dead_bytes = min(filed, log.durable) - closed[0].base - pipeline.ledger.live_bytes(log.name)
        if sum(state.size_bytes for state in states) * _COPY_GAIN > dead_bytes:
            return []
        return sorted(ids)[:_COPY_BATCH]

    async def _copy_forward(self, ident: str) -> None:
        """Write the entry and its outcomes so far anew at the head of our own stream, then let the old one go."""
        pipeline = self._pipeline
        entry = await pipeline.load(ident)
        state = pipeline.ledger.states.get(ident)
        if state is None:  # settled while we read
            return
        origin, own = state.stream, pipeline.own.name
        now_ns = time.time_ns()
        future = quiet_future()
        parts = encode_entry(replace(entry, copied_from=f"{state.lsn}:{origin}"))
        state.route = own  # from here on its marks follow the copy
        pipeline.put_entry(state, ident, parts, future)
        for mark in list(state.marks(now_ns)):
            pipeline.put_mark(own, mark)
        try:
            await future
        except JournalError:
            state.route = origin
            for mark in list(state.marks(now_ns)) if origin in pipeline.logs else ():
                pipeline.put_mark(origin, mark)  # those that went the other way meanwhile
            raise
        state.copied = True
        pipeline.files.point("CP9")
        if origin != own and origin in pipeline.logs:
            pipeline.put_mark(origin, state.moved(now_ns))


def _remove(files: Files, log: StreamLog) -> None:
    # The lock is let go last: nobody may adopt what is about to go.
    remove_stream(files, log.path)
    log.close()
