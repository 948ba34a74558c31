"""The proxy's side of the journal: append entries and marks, adopt what dead writers left, keep the disk tidy.

All methods belong to one event loop; the disk belongs to the committer's thread. What is appended counts in the
ledger at once (so that marks find their entry), and for the outside when its future resolves: then it is fsynced.
"""

from __future__ import annotations

import asyncio
import os
import time
from asyncio import Future
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from proxy.journal.codec import ENTRY, MARK, decode, encode_entry, encode_mark
from proxy.journal.committer import Committer, Done, Pending
from proxy.journal.errors import JournalError, UnknownVersionError
from proxy.journal.files import Files
from proxy.journal.ledger import Ledger, State
from proxy.journal.log import StreamLog
from proxy.journal.records import Entry, Fate, Mark
from proxy.journal.recovery import Recovered, recover
from proxy.journal.scan import Segment
from proxy.journal.stream import (
    FILED,
    SegmentName,
    list_streams,
    lock_stream,
    new_stream,
    read_cursor,
    remove_stream,
    sweep,
)
from proxy.journal.unanswered import ANSWERED, Unanswered, UnansweredHit
from proxy.settings import JournalSettings

_ADOPTED_SEGMENT_BYTES = 1024 * 1024
_PENDING_LIMIT_BYTES = 256 * 1024 * 1024  # on their way to the disk, in memory
_COPY_BATCH_BYTES = 16 * 1024 * 1024
_COPY_BATCH = 500
_COPY_GAIN = 4  # copy only where it frees at least this many times what it writes


@dataclass(frozen=True, slots=True)
class OpenEntry:
    """An entry with a recipient that still waits; `hosts` has, a recipient, the host of its last outcome or "".

    `answered` is as in `Mark`, None while the sender's answer is undecided. Times are Unix, ns.
    """

    id: str
    received_ns: int
    size_bytes: int
    mail_arg: bytes
    rcpt_args: tuple[bytes, ...]
    fates: tuple[Fate, ...]
    hosts: tuple[str, ...]
    answered: int | None
    lsn: int
    stream: str


class JournalWriter:
    """One writer process's journal. Make it by `open`; end it by `close`."""

    def __init__(self, settings: JournalSettings, files: Files, own: StreamLog, unanswered: Unanswered) -> None:
        self.settings = settings
        self.files = files
        self.refused: dict[str, str] = {}  # streams that could not be adopted, and why
        self.damage: dict[str, list[str]] = {}  # what recovery had to pass over, by stream
        self._own = own
        self._logs: dict[str, StreamLog] = {own.name: own}
        self._ledger = Ledger()
        self._unanswered = unanswered
        self._in_flight: dict[str, set[Pending]] = {own.name: set()}
        self._states: dict[Pending, State] = {}
        self._in_flight_bytes = 0
        self._used_bytes = 0
        self._refusals = 0
        self._max_sync_s = 0.0
        self._closed = False
        self._tidying = False
        self._committer = Committer(asyncio.get_running_loop(), settings.dir, self._completed)

    # -- life ----------------------------------------------------------------------------------------------------

    @classmethod
    async def open(cls, settings: JournalSettings, *, worker: int = 0, files: Files | None = None) -> JournalWriter:
        """Create and lock a stream in `settings.dir`. Raises JournalError if the disk does not let us."""
        files = files or Files()

        def prepare() -> tuple[StreamLog, Unanswered, str]:
            settings.dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            sweep(files, settings.dir)
            unanswered = Unanswered(files, settings.dir)
            unanswered.refresh()
            path, lock_fd = new_stream(files, settings.dir, worker)
            log = StreamLog(files, path, lock_fd, segment_bytes=settings.segment_bytes)
            try:
                log.prepare()
            except OSError as error:  # full, perhaps: each commit tries again
                return log, unanswered, str(error)
            return log, unanswered, ""

        try:
            own, unanswered, error_text = await asyncio.to_thread(prepare)
        except OSError as error:
            raise JournalError(f"no journal in {settings.dir}: {error}") from error
        writer = cls(settings, files, own, unanswered)
        writer._committer.last_error = error_text
        writer._committer.failed = bool(error_text)
        return writer

    async def flush(self) -> None:
        """Wait until all that was appended before is durable. Raises JournalError if some of it is not."""
        await self._committer.call(_nothing)
        if any(self._committer.carries(log) for log in self._logs.values()):
            raise JournalError(f"marks are waiting for the disk: {self._committer.last_error}")

    async def close(self) -> None:
        """Commit what is pending, release all streams. Later appends fail. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for pending in await self._committer.stop():
            _settle(pending.future, JournalError(f"not written: {self._committer.last_error}"))
        await asyncio.sleep(0)  # the last batch's futures
        for log in self._logs.values():
            await asyncio.to_thread(log.close)

    # -- appending -----------------------------------------------------------------------------------------------

    def append_entry(self, entry: Entry) -> Future[int]:
        """Write `entry`; resolves with its LSN once it is durable.

        The future fails with JournalError: closed, `reserve` or `max_backlog` reached, or the disk failed.
        """
        future = _quiet_future()
        reason = self._no_room(len(entry.wire))
        if reason:
            self._refusals += 1
            future.set_exception(JournalError(reason))
            return future
        try:
            parts = encode_entry(entry)
        except JournalError as error:
            future.set_exception(error)
            return future
        state = self._ledger.add(entry, self._own.name)
        self._put(Pending(self._own, ENTRY, entry.id, parts, future), state)
        return future

    def append_mark(self, mark: Mark) -> Future[int]:
        """Write `mark` into its entry's stream with the next commit; resolves with its LSN. Callers may ignore it.

        A mark that the failing disk did not take is written again, to a new segment, before anything else; only the
        last about a thing is kept. A mark about no unsettled entry of this writer is not written: JournalError.
        """
        state = self._ledger.states.get(mark.id)
        future = _quiet_future()
        if state is None or self._closed:
            future.set_exception(JournalError(f"no unsettled entry {mark.id}" if state is None else "closed"))
            return future
        try:
            parts = (encode_mark(mark),)
        except JournalError as error:
            future.set_exception(error)
            return future
        route = state.route
        self._ledger.apply(mark)
        if mark.answered == 0:
            self._remember([state])
        self._put_mark(route, mark, parts, future)
        return future

    def was_unanswered(self, digest: bytes) -> UnansweredHit | None:
        """The record of a byte-identical submission that a crash left unanswered in the last 5 days."""
        return self._unanswered.get(digest)

    def resend_answered(self, digest: bytes) -> None:
        """The resend of an unanswered submission has got its reply: the next identical one is a new message."""
        if self._unanswered.get(digest) is None or self._closed:
            return
        gone = UnansweredHit(digest, "", ANSWERED, "", time.time())
        self._unanswered.remember(gone)
        self._committer.call(lambda: self._unanswered.store([gone])).add_done_callback(_retrieve)

    # -- what is open --------------------------------------------------------------------------------------------

    def open_entries(self) -> Iterator[OpenEntry]:
        """All durable entries with a non-final recipient, oldest first; those now being delivered included.

        A snapshot of ids, read on as the iterator is advanced: each step reads one envelope (from the page cache,
        mostly); what has been settled or cannot be read meanwhile is passed over.
        """
        ids = sorted(state.id for state in self._ledger.states.values() if state.lsn >= 0)
        for ident in ids:
            state = self._ledger.states.get(ident)
            if state is None or not state.open or state.passed:
                continue
            try:
                envelope = self._read(state, body=False)
            except (OSError, JournalError):
                continue
            yield OpenEntry(
                id=state.id,
                received_ns=state.received_ns,
                size_bytes=state.size_bytes,
                mail_arg=envelope.mail_arg,
                rcpt_args=envelope.rcpt_args,
                fates=tuple(outcome.fate for outcome in state.outcomes),
                hosts=tuple(outcome.host for outcome in state.outcomes),
                answered=state.answered,
                lsn=state.lsn,
                stream=state.stream,
            )

    async def load(self, ident: str) -> Entry:
        """An unsettled, durable entry with its wire bytes, from disk. Raises JournalError."""
        state = self._ledger.states.get(ident)
        if state is None or state.lsn < 0:
            raise JournalError(f"no unsettled entry {ident}")
        try:
            return await asyncio.to_thread(self._read, state)
        except OSError as error:
            raise JournalError(f"{ident}: {error}") from error

    # -- what others left ----------------------------------------------------------------------------------------

    async def adopt_orphans(self) -> list[OpenEntry]:
        """Take over all streams that nobody locks; returns their open entries, oldest first.

        Whatever their writers left unanswered is decided now: a mark `answered` 0, and its digest remembered. Call
        it at start, and again when another worker may have died. A stream of a later version is left alone.
        """
        adopted: set[str] = set()
        for recovered, log in await asyncio.to_thread(self._lock_and_recover):
            self._logs[log.name] = log
            self._in_flight[log.name] = set()
            adopted |= self._merge(recovered, log)
        states = [self._ledger.states[ident] for ident in sorted(adopted & self._ledger.states.keys())]
        undecided = [state for state in states if state.answered is None]
        if undecided:
            await self._try(asyncio.to_thread(self._unanswered.store, [_hit(state) for state in undecided]))
        self.files.point("CP8")
        for state in undecided:
            mark = Mark(state.id, time.time_ns(), answered=0)
            self._ledger.apply(mark)
            self._put_mark(state.route, mark)
        await self._committer.call(_nothing)
        return [entry for entry in self.open_entries() if entry.id in adopted]

    def _lock_and_recover(self) -> list[tuple[Recovered, StreamLog]]:
        adopted = []
        for name in list_streams(self.settings.dir):
            path = self.settings.dir / name
            lock_fd = None if name in self._logs else lock_stream(path)
            if lock_fd is None:
                continue
            try:
                adopted.append(self._recover(path, lock_fd))
            except (OSError, UnknownVersionError) as error:
                self.refused[name] = str(error)
                os.close(lock_fd)
        return adopted

    def _recover(self, path: Path, lock_fd: int) -> tuple[Recovered, StreamLog]:
        recovered = recover(self.files, path)
        self.refused.pop(path.name, None)
        log = StreamLog(self.files, path, lock_fd, segment_bytes=_ADOPTED_SEGMENT_BYTES, durable=recovered.end)
        log.publish()
        return recovered, log

    def _merge(self, recovered: Recovered, log: StreamLog) -> set[str]:
        """Take a recovered stream's states into the ledger; returns their ids."""
        if recovered.damage:
            self.damage[log.name] = recovered.damage
        now = time.time_ns()
        for state in recovered.ledger.states.values():
            mine = self._ledger.states.get(state.id)
            if mine is None:
                self._ledger.adopt(state)
                continue
            # A copy whose original had not been let go: the copy stays, with all that is known of both.
            copy, original = (mine, state) if mine.copied or not state.copied else (state, mine)
            copy.inherit(original)
            self._ledger.forget(mine.id)
            if not copy.settled:
                self._ledger.adopt(copy)
            for mark in copy.marks(now):
                self._put_mark(copy.stream, mark)
            self._put_mark(original.stream, _moved(copy.id, copy, now))
        return set(recovered.ledger.states)

    # -- housekeeping --------------------------------------------------------------------------------------------

    async def housekeep(self) -> None:
        """Every second or so: delete what is settled and filed, copy forward what pins the rest. Never raises."""
        if self._closed or self._tidying:
            return
        self._tidying = True
        try:
            await self._try(asyncio.to_thread(self._unanswered.refresh))
            for log in list(self._logs.values()):
                await self._try(self._tidy(log))
            self._used_bytes = await asyncio.to_thread(self._measure)
        finally:
            self._tidying = False

    async def _try(self, step: Coroutine[None, None, None]) -> None:
        try:
            await step
        except (OSError, JournalError) as error:
            self._committer.last_error = str(error)

    async def _tidy(self, log: StreamLog) -> None:
        filed = await asyncio.to_thread(read_cursor, log.path / FILED)
        gone = self._deletable(log, filed)
        for segment in gone:
            await self._committer.call(lambda segment=segment: log.drop_segment(segment))  # type: ignore[misc]
        if self._removable(log, filed):
            del self._logs[log.name], self._in_flight[log.name]
            await self._committer.call(lambda: _remove(self.files, log))
            return
        for ident in self._pinning(log, filed):
            await self._copy_forward(ident)

    def _deletable(self, log: StreamLog, filed: int) -> list[SegmentName]:
        """The longest run of oldest segments in which all is settled and filed.

        Never one from the middle: its marks may be all that settles an earlier segment's entries.
        """
        gone = []
        segments = log.segments.copy()
        busy = {pending.seq for pending in self._in_flight[log.name]}
        for segment, following in pairwise(segments):
            pinned = self._ledger.pinned_by(log.name, segment.seq) or segment.seq in busy
            if pinned or following.base > filed:
                break
            gone.append(segment)
        return gone

    def _removable(self, log: StreamLog, filed: int) -> bool:
        return (
            log is not self._own
            and not self._in_flight[log.name]
            and not self._ledger.holds(log.name)
            and filed >= log.durable
        )

    def _pinning(self, log: StreamLog, filed: int) -> list[str]:
        """Ids in the oldest segment that are long open, if copying them frees much more than it costs."""
        segments = log.segments.copy()
        closed = segments if log is not self._own else segments[:-1]
        if not closed or self._no_room(0):
            return []
        ids = self._ledger.pinned_by(log.name, closed[0].seq)
        states = [self._ledger.states[ident] for ident in ids]
        end = segments[1].base if len(segments) > 1 else log.durable
        old = time.time_ns() - int(self.settings.copy_forward_after_s * 1e9)
        if end > filed or any(state.answered is None or state.received_ns > old for state in states):
            return []
        dead_bytes = min(filed, log.durable) - closed[0].base - self._ledger.live_bytes(log.name)
        if sum(state.size_bytes for state in states) * _COPY_GAIN > dead_bytes:
            return []
        return sorted(ids)[:_COPY_BATCH]

    async def _copy_forward(self, ident: str) -> None:
        """Write the entry and its outcomes so far anew at the head of our own stream, then let the old one go."""
        entry = await self.load(ident)
        state = self._ledger.states.get(ident)
        if state is None:  # settled while we read
            return
        origin = state.stream
        now = time.time_ns()
        copied_from = f"{state.lsn}:{origin}"
        future = _quiet_future()
        parts = encode_entry(replace(entry, copied_from=copied_from))
        state.route = self._own.name  # from here on its marks follow the copy
        self._put(Pending(self._own, ENTRY, ident, parts, future), state)
        for mark in list(state.marks(now)):
            self._put_mark(self._own.name, mark)
        try:
            await future
        except JournalError:
            state.route = origin
            for mark in list(state.marks(now)) if origin in self._logs else ():
                self._put_mark(origin, mark)  # those that went the other way meanwhile
            raise
        state.copied = True
        self.files.point("CP9")
        if origin != self._own.name and origin in self._logs:
            self._put_mark(origin, _moved(ident, state, now))

    def _measure(self) -> int:
        total = 0
        for log in list(self._logs.values()):
            for segment in log.segments.copy():
                try:
                    total += segment.path.stat().st_blocks * 512
                except OSError:
                    continue
        return total

    # -- looking in ----------------------------------------------------------------------------------------------

    def status(self) -> dict[str, object]:
        """JSON-able. `failed`: the last commit failed; `syncing_s`: how long the fsync under way has taken."""
        filed = {name: read_cursor(log.path / FILED) for name, log in self._logs.items()}
        own = self._own
        since = own.syncing_since
        return {
            "bytes": self._used_bytes,
            "segments": sum(len(log.segments) for log in self._logs.values()),
            "streams": len(self._logs),
            "open": sum(1 for state in self._ledger.states.values() if state.open),
            "undecided": sum(1 for state in self._ledger.states.values() if state.answered is None),
            "unfiled_bytes": sum(max(0, log.durable - filed[name]) for name, log in self._logs.items()),
            "pending": sum(map(len, self._in_flight.values())),
            "unanswered": len(self._unanswered),
            "refusals": self._refusals,
            "failed": self._committer.failed or bool(self._no_room(0)),
            "last_error": self._committer.last_error,
            "last_fsync_s": own.last_sync_s,
            "max_fsync_s": self._max_sync_s,
            "syncing_s": time.monotonic() - since if since else 0.0,
            "free_bytes": self._committer.free_bytes,
            "refused_streams": dict(self.refused),
            "damage": {name: list(lines) for name, lines in self.damage.items()},
        }

    # -- within --------------------------------------------------------------------------------------------------

    def _no_room(self, size_bytes: int) -> str:
        """Why no entry of this size is taken now, "" if it is."""
        if self._closed:
            return "the journal is closed"
        pending = self._in_flight_bytes + size_bytes
        if self._in_flight_bytes and pending > _PENDING_LIMIT_BYTES:  # an fsync that hangs must not fill the memory
            return f"too slow a disk: {self._in_flight_bytes} bytes are waiting for it"
        if self._committer.free_bytes - pending < self.settings.reserve_bytes:
            return "journal.reserve: too little disk space"
        if self._backlog_bytes() + pending > self.settings.max_backlog_bytes:
            return "journal.max_backlog reached"
        return ""

    def _backlog_bytes(self) -> int:
        return sum(log.durable - log.segments[0].base for log in self._logs.values() if log.segments)

    def _put(self, pending: Pending, state: State | None = None) -> None:
        self._in_flight[pending.log.name].add(pending)
        self._in_flight_bytes += pending.size_bytes
        if state is not None:
            self._states[pending] = state
        self._committer.put(pending)

    def _put_mark(
        self,
        stream: str,
        mark: Mark,
        parts: tuple[bytes, ...] | None = None,
        future: Future[int] | None = None,
    ) -> None:
        key = (mark.id, mark.rcpts, mark.answered is None, bool(mark.moved_to))
        parts = parts or (encode_mark(mark),)
        self._put(Pending(self._logs[stream], MARK, mark.id, parts, future or _quiet_future(), key))

    def _completed(self, done: Done) -> None:
        self._max_sync_s = max(self._max_sync_s, self._own.last_sync_s)
        for pending, error in done:
            self._in_flight[pending.log.name].discard(pending)
            self._in_flight_bytes -= pending.size_bytes
            state = self._states.pop(pending, None)
            if error is not None:
                if state is not None and state.lsn < 0:
                    self._ledger.forget(pending.ident)
                _settle(pending.future, JournalError(f"not written: {error}"))
                continue
            if state is not None:
                self._ledger.place(state, pending.log.name, pending.seq, pending.lsn)
            if not pending.future.done():
                pending.future.set_result(pending.lsn)

    def _remember(self, states: Iterable[State]) -> None:
        hits = [_hit(state) for state in states]
        for hit in hits:
            self._unanswered.remember(hit)
        stored = self._committer.call(lambda: self._unanswered.store(hits))
        stored.add_done_callback(_retrieve)

    def _read(self, state: State, *, body: bool = True) -> Entry:
        for name in self._logs[state.stream].segments.copy():
            if name.seq == state.seq:
                with Segment(name.path) as segment:
                    frame = segment.frame(state.lsn, segment.end)
                record = decode(frame.kind, frame.payload, body=body) if frame else None
                if isinstance(record, Entry):
                    return record
        raise JournalError(f"{state.id} cannot be read at LSN {state.lsn} of {state.stream}")


def _hit(state: State) -> UnansweredHit:
    code, text = state.refusal()
    return UnansweredHit(state.digest, state.id, code, text, time.time())


def _moved(ident: str, to: State, at_ns: int) -> Mark:
    return Mark(ident, at_ns, moved_to=f"{to.lsn}:{to.stream}")


def _remove(files: Files, log: StreamLog) -> None:
    # The lock is let go last: nobody may adopt what is about to go.
    remove_stream(files, log.path)
    log.close()


def _nothing() -> None:
    """Flush: a job runs after all that was put before it."""


def _quiet_future() -> Future[int]:
    future: Future[int] = asyncio.get_running_loop().create_future()
    future.add_done_callback(_retrieve)
    return future


def _retrieve(future: Future[int] | Future[None]) -> None:
    if not future.cancelled():
        future.exception()  # nobody need await it: no complaint if nobody does


def _settle(future: Future[int], error: JournalError) -> None:
    if not future.done():
        future.set_exception(error)
