"""The writer's streams, what in them is unsettled, and the records on their way to the disk.

What is put here counts in the ledger at once (so that marks find their entry), and for the outside when its future
resolves: then it is fsynced. All methods belong to one event loop; the disk belongs to the committer's thread.
"""

from __future__ import annotations

import asyncio
import time
from asyncio import Future
from collections.abc import Sequence

from proxy.journal.codec import ENTRY, MARK, decode, encode_mark
from proxy.journal.committer import Committer, Done, Pending
from proxy.journal.errors import JournalError
from proxy.journal.files import Files
from proxy.journal.ledger import Ledger, State
from proxy.journal.log import StreamLog
from proxy.journal.records import Entry, Mark
from proxy.journal.scan import Segment
from proxy.settings import JournalSettings

_PENDING_LIMIT_BYTES = 256 * 1024 * 1024  # on their way to the disk, in memory


class Pipeline:
    """`own` is the stream that new entries go to; `logs` has that and the adopted ones, by name."""

    def __init__(self, settings: JournalSettings, files: Files, own: StreamLog) -> None:
        """Starts the committer's thread."""
        self.settings = settings
        self.files = files
        self.own = own
        self.logs: dict[str, StreamLog] = {own.name: own}
        self.ledger = Ledger()
        self.max_sync_s = 0.0
        self._in_flight: dict[str, set[Pending]] = {own.name: set()}
        self._in_flight_bytes = 0
        self._states: dict[Pending, State] = {}
        self.committer = Committer(asyncio.get_running_loop(), files, settings.dir, self._completed)

    # -- streams

    def adopt(self, log: StreamLog) -> None:
        """A recovered stream is ours from now on."""
        self.logs[log.name] = log
        self._in_flight[log.name] = set()

    def let_go(self, log: StreamLog) -> None:
        """An adopted stream is about to be removed."""
        del self.logs[log.name], self._in_flight[log.name]

    def busy(self, log: StreamLog) -> set[int]:
        """Segments that got records which are not yet in the ledger; -1 for those that are in none yet."""
        return {pending.seq for pending in self._in_flight[log.name]}

    @property
    def pending(self) -> int:
        """How many records are on their way."""
        return sum(map(len, self._in_flight.values()))

    # -- room

    def no_room(self, size_bytes: int) -> str:
        """Why no entry of this size is taken now, "" if it is. Marks are always taken: they make room again."""
        pending = self._in_flight_bytes + size_bytes
        if self._in_flight_bytes and pending > _PENDING_LIMIT_BYTES:  # an fsync that hangs must not fill the memory
            return f"too slow a disk: {self._in_flight_bytes} bytes are waiting for it"
        # Below `reserve` the filer waits and the rest is ours, but for the last segment's worth: for marks and expiry.
        kept = min(self.settings.reserve_bytes, self.settings.segment_bytes)
        if self.committer.free_bytes - pending < kept:
            return f"the disk is full: {self.committer.free_bytes} bytes are free"
        if self._backlog_bytes() + pending > self.settings.max_backlog_bytes:
            return "journal.max_backlog reached"
        return ""

    def _backlog_bytes(self) -> int:
        return sum(log.durable - log.segments[0].base for log in self.logs.values() if log.segments)

    # -- records in

    def put_entry(self, state: State | None, ident: str, parts: Sequence[bytes], future: Future[int]) -> None:
        """Write an entry to our own stream; `state` is None if it is settled from the start."""
        self._put(Pending(self.own, ENTRY, ident, parts, future), state)

    def put_mark(self, stream: str, mark: Mark, *, encoded: bytes = b"", future: Future[int] | None = None) -> None:
        """Write a mark to a stream."""
        key = (mark.id, mark.rcpts, mark.answered is None, bool(mark.moved_to))
        parts = (encoded or encode_mark(mark),)
        self._put(Pending(self.logs[stream], MARK, mark.id, parts, future, key))

    def _put(self, pending: Pending, state: State | None = None) -> None:
        self._in_flight[pending.log.name].add(pending)
        self._in_flight_bytes += pending.size_bytes
        if state is not None:
            self._states[pending] = state
        self.committer.put(pending)

    def _completed(self, done: Done) -> None:
        self.max_sync_s = max(self.max_sync_s, self.own.last_sync_s)
        for pending, error in done:
            self._in_flight[pending.log.name].discard(pending)
            self._in_flight_bytes -= pending.size_bytes
            state = self._states.pop(pending, None)
            if error is not None:
                if state is not None and state.lsn < 0:
                    self.ledger.forget(pending.ident)
                fail(pending.future, JournalError(f"not written: {error}"))
                continue
            if state is not None:
                self.ledger.place(state, pending.log.name, pending.seq, pending.lsn)
            if pending.future is not None and not pending.future.done():
                pending.future.set_result(pending.lsn)

    # -- entries out

    async def load(self, ident: str) -> Entry:
        """An unsettled, durable entry with its wire bytes, from disk. Raises JournalError."""
        state = self.ledger.states.get(ident)
        if state is None or state.lsn < 0:
            raise JournalError(f"no unsettled entry {ident}")
        try:
            return await asyncio.to_thread(self._read, state)
        except OSError as error:
            raise JournalError(f"{ident}: {error}") from error

    def _read(self, state: State) -> Entry:
        log = self.logs.get(state.stream)
        for name in log.segments.copy() if log is not None else ():
            if name.seq == state.seq:
                with Segment(name.path) as segment:
                    frame = segment.frame(state.lsn, segment.end)
                record = decode(frame.kind, frame.payload) if frame else None
                if isinstance(record, Entry):
                    return record
        raise JournalError(f"{state.id} cannot be read at LSN {state.lsn} of {state.stream}")

    # -- looking in

    def syncing_s(self) -> float:
        """How long the fsync under way has taken, 0 if there is none."""
        since = self.own.syncing_since
        return time.monotonic() - since if since else 0.0


def quiet_future() -> Future[int]:
    """A future that does not complain if nobody awaits it."""
    future: Future[int] = asyncio.get_running_loop().create_future()
    future.add_done_callback(retrieve)
    return future


def retrieve(future: Future[int] | Future[None]) -> None:
    """Look at a future's exception, so that it is not reported as never retrieved."""
    if not future.cancelled():
        future.exception()


def fail(future: Future[int] | None, error: JournalError) -> None:
    """Make it a failure, if anybody waits and it is nothing yet."""
    if future is not None and not future.done():
        future.set_exception(error)
