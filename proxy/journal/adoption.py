"""Taking over the streams whose writers are dead: recovered, decided where undecided, merged into the own ledger."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time

from proxy.journal.errors import JournalError, UnknownVersionError
from proxy.journal.log import StreamLog
from proxy.journal.pipeline import Pipeline
from proxy.journal.records import Mark
from proxy.journal.recovery import Recovered, recover
from proxy.journal.stream import list_streams, lock_stream
from proxy.journal.unanswered import Unanswered, hit_of

_SEGMENT_BYTES = 1024 * 1024  # only marks go there


class Adoption:
    """`refused` has the streams that could not be adopted, and why; `damage` what recovery had to pass over."""

    def __init__(self, pipeline: Pipeline, unanswered: Unanswered) -> None:
        self.refused: dict[str, str] = {}
        self.damage: dict[str, list[str]] = {}
        self._pipeline = pipeline
        self._unanswered = unanswered

    async def run(self) -> set[str]:
        """Adopt all streams that nobody locks; returns the ids of what is unsettled in them.

        Whatever their writers left unanswered is decided now: a mark `answered` 0, and its digest remembered.
        """
        pipeline, ledger = self._pipeline, self._pipeline.ledger
        adopted: set[str] = set()
        for recovered, log in await asyncio.to_thread(self._lock_and_recover):
            pipeline.adopt(log)
            adopted |= self._merge(recovered, log)
        if not adopted:
            return adopted
        states = [ledger.states[ident] for ident in sorted(adopted & ledger.states.keys())]
        undecided = [state for state in states if state.answered is None]
        if undecided:
            with contextlib.suppress(OSError, JournalError):  # remembered in memory all the same
                await asyncio.to_thread(self._unanswered.store, [hit_of(state) for state in undecided])
        pipeline.files.point("CP8")
        for state in undecided:
            mark = Mark(state.id, time.time_ns(), answered=0)
            ledger.apply(mark)
            pipeline.put_mark(state.route, mark)
        await pipeline.committer.flush()
        return adopted

    def _lock_and_recover(self) -> list[tuple[Recovered, StreamLog]]:
        pipeline, adopted = self._pipeline, []
        for name in list_streams(pipeline.settings.dir):
            path = pipeline.settings.dir / name
            lock_fd = None if name in pipeline.logs else lock_stream(path)
            if lock_fd is None:
                continue
            try:
                recovered = recover(pipeline.files, path)
                self.refused.pop(name, None)
                log = StreamLog(
                    pipeline.files,
                    path,
                    lock_fd,
                    segment_bytes=_SEGMENT_BYTES,
                    durable=recovered.end,
                    lossy=recovered.lossy,
                )
                log.publish()
                adopted.append((recovered, log))
            except (OSError, UnknownVersionError) as error:
                self.refused[name] = str(error)
                os.close(lock_fd)
        return adopted

    def _merge(self, recovered: Recovered, log: StreamLog) -> set[str]:
        """Take a recovered stream's states into the ledger; returns their ids."""
        pipeline, ledger = self._pipeline, self._pipeline.ledger
        if recovered.damage:
            self.damage[log.name] = recovered.damage
        now_ns = time.time_ns()
        for state in recovered.ledger.states.values():
            mine = ledger.states.get(state.id)
            if mine is None:
                ledger.adopt(state)
                continue
            # A copy whose original had not been let go: the copy stays, with all that is known of both.
            copy, original = (mine, state) if mine.copied or not state.copied else (state, mine)
            ledger.forget(mine.id)
            copy.inherit(original)
            if not copy.settled:
                ledger.adopt(copy)
            for mark in copy.marks(now_ns):
                pipeline.put_mark(copy.stream, mark)
            pipeline.put_mark(original.stream, copy.moved(now_ns))
        return set(recovered.ledger.states)
