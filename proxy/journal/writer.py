"""The proxy's side of the journal: append entries and marks, adopt what dead writers left, keep the disk tidy.

This is the door; behind it stand the records on their way (`pipeline.py`), the disk's thread (`committer.py`), what
others left (`adoption.py`), deletion and copying (`tidying.py`), and the digests of what was never answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from asyncio import Future
from collections.abc import Coroutine, Iterable, Iterator

from proxy.journal.adoption import Adoption
from proxy.journal.codec import encode_entry, encode_mark
from proxy.journal.errors import JournalError
from proxy.journal.files import Files
from proxy.journal.log import StreamLog
from proxy.journal.pipeline import Pipeline, fail, quiet_future, retrieve
from proxy.journal.records import Entry, Mark, OpenEntry
from proxy.journal.stream import FILED, new_stream, read_cursor, sweep
from proxy.journal.tidying import Tidying
from proxy.journal.unanswered import ANSWERED, Unanswered, UnansweredHit, hit_of
from proxy.settings import JournalSettings


class JournalWriter:
    """One writer process's journal, all of it on one event loop. Make it by `open`; end it by `close`."""

    def __init__(self, settings: JournalSettings, files: Files, own: StreamLog, unanswered: Unanswered) -> None:
        self.settings = settings
        self._pipeline = Pipeline(settings, files, own)
        self._ledger = self._pipeline.ledger
        self._committer = self._pipeline.committer
        self._unanswered = unanswered
        self._adoption = Adoption(self._pipeline, unanswered)
        self._tidying = Tidying(self._pipeline)
        self._used_bytes = 0
        self._refusals = 0
        self._closed = False
        self._busy = False  # housekeeping is under way

    # -- life

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
        await self._committer.flush()
        if any(self._committer.carries(log) for log in self._pipeline.logs.values()):
            raise JournalError(f"marks are waiting for the disk: {self._committer.last_error}")

    async def close(self) -> None:
        """Commit what is pending, release all streams. Later appends fail. Idempotent.

        A disk that hangs is waited for some seconds; what it owes is then left as after a crash.
        """
        if self._closed:
            return
        self._closed = True
        try:
            left = await self._committer.stop()
        except TimeoutError:
            self._committer.last_error = "the disk hangs"
            return
        for pending in left:
            fail(pending.future, JournalError(f"not written: {self._committer.last_error}"))
        await asyncio.sleep(0)  # the last batch's futures
        for log in self._pipeline.logs.values():
            await asyncio.to_thread(log.close)

    # -- appending

    def append_entry(self, entry: Entry) -> Future[int]:
        """Write `entry`; resolves with its LSN once it is durable.

        The future fails with JournalError: closed, disk full, `max_backlog` reached, or the disk failed.
        """
        future = quiet_future()
        if reason := self._no_room(len(entry.wire)):
            self._refusals += 1
            future.set_exception(JournalError(reason))
            return future
        try:
            parts = encode_entry(entry)
        except JournalError as error:
            future.set_exception(error)
            return future
        state = self._ledger.add(entry, self._pipeline.own.name)
        self._pipeline.put_entry(state, entry.id, parts, future)
        return future

    def append_mark(self, mark: Mark) -> Future[int]:
        """Write `mark` into its entry's stream with the next commit; resolves with its LSN.

        A mark that the failing disk did not take is written again, to a new segment, before anything else; only the
        last about a thing is kept. A mark about no unsettled entry of this writer is not written: JournalError.
        """
        future = quiet_future()
        try:
            self._mark(mark, future)
        except JournalError as error:
            future.set_exception(error)
        return future

    def note(self, mark: Mark) -> None:
        """`append_mark` for whoever does not wait for it."""
        with contextlib.suppress(JournalError):
            self._mark(mark)

    def _mark(self, mark: Mark, future: Future[int] | None = None) -> None:
        state = self._ledger.states.get(mark.id)
        if state is None or self._closed:
            raise JournalError(f"no unsettled entry {mark.id}" if state is None else "closed")
        encoded = encode_mark(mark)
        route = state.route
        self._ledger.apply(mark)
        if mark.answered == 0:
            self._remember(hit_of(state))
        self._pipeline.put_mark(route, mark, encoded=encoded, future=future)

    def _no_room(self, size_bytes: int) -> str:
        return "the journal is closed" if self._closed else self._pipeline.no_room(size_bytes)

    # -- duplicates that we caused

    def was_unanswered(self, digest: bytes) -> UnansweredHit | None:
        """The record of a byte-identical submission that a crash left unanswered in the last 5 days."""
        return self._unanswered.get(digest)

    def resend_answered(self, digest: bytes) -> None:
        """The resend of an unanswered submission has got its reply: the next identical one is a new message."""
        hit = self._unanswered.get(digest)
        if hit is not None and not self._closed:
            # Never dated before what it takes back: the clock may have been set, and the later line counts.
            self._remember(UnansweredHit(digest, "", ANSWERED, "", max(time.time(), hit.at_s)))

    def _remember(self, hit: UnansweredHit) -> None:
        self._unanswered.remember(hit)
        self._committer.call(lambda: self._unanswered.store([hit])).add_done_callback(retrieve)

    # -- what is open

    def open_entries(self) -> Iterator[OpenEntry]:
        """All durable entries with a non-final recipient, oldest first; those now being delivered included.

        A snapshot of ids, read on as the iterator is advanced; what has been settled meanwhile is passed over.
        """
        return self._open_among(self._ledger.states)

    def _open_among(self, idents: Iterable[str]) -> Iterator[OpenEntry]:
        for ident in sorted(idents):
            state = self._ledger.states.get(ident)
            if state is not None and state.lsn >= 0 and state.open and not state.passed:
                yield state.snapshot()

    async def load(self, ident: str) -> Entry:
        """An unsettled, durable entry with its wire bytes, from disk. Raises JournalError."""
        return await self._pipeline.load(ident)

    async def adopt_orphans(self) -> list[OpenEntry]:
        """Take over all streams that nobody locks; returns their open entries, oldest first.

        Whatever their writers left unanswered is decided now. Call it at start, and again when another worker may have
        died. A stream of a later version is left alone.
        """
        return list(self._open_among(await self._adoption.run()))

    # -- housekeeping

    async def housekeep(self) -> None:
        """Every second or so: delete what is settled and filed, copy forward what pins the rest. Never raises."""
        if self._closed or self._busy:
            return
        self._busy = True
        try:
            await self._try(asyncio.to_thread(self._unanswered.refresh))
            for log in list(self._pipeline.logs.values()):
                await self._try(self._tidying.tidy(log))
            self._used_bytes = await asyncio.to_thread(self._measure)
        finally:
            self._busy = False

    async def _try(self, step: Coroutine[None, None, None]) -> None:
        try:
            await step
        except (OSError, JournalError) as error:
            self._committer.last_error = str(error)

    def _measure(self) -> int:
        total = 0
        for log in list(self._pipeline.logs.values()):
            for segment in log.segments.copy():
                try:
                    total += segment.path.stat().st_blocks * 512
                except OSError:
                    continue
        return total

    # -- looking in

    @property
    def refused(self) -> dict[str, str]:
        """Streams that could not be adopted, and why."""
        return self._adoption.refused

    @property
    def damage(self) -> dict[str, list[str]]:
        """What recovery had to pass over, by stream."""
        return self._adoption.damage

    def status(self) -> dict[str, object]:
        """JSON-able. `failed`: the last commit failed; `syncing_s`: how long the fsync under way has taken."""
        pipeline = self._pipeline
        filed = {name: read_cursor(log.path / FILED) for name, log in pipeline.logs.items()}
        return {
            "bytes": self._used_bytes,
            "segments": sum(len(log.segments) for log in pipeline.logs.values()),
            "streams": len(pipeline.logs),
            "open": self._ledger.open,
            "undecided": self._ledger.undecided,
            "unfiled_bytes": sum(max(0, log.durable - filed[name]) for name, log in pipeline.logs.items()),
            "pending": pipeline.pending,
            "unanswered": len(self._unanswered),
            "refusals": self._refusals,
            "failed": self._committer.failed or bool(self._no_room(0)),
            "last_error": self._committer.last_error,
            "last_fsync_s": pipeline.own.last_sync_s,
            "max_fsync_s": pipeline.max_sync_s,
            "syncing_s": pipeline.syncing_s(),
            "free_bytes": self._committer.free_bytes,
            "refused_streams": dict(self.refused),
            "damage": {name: list(lines) for name, lines in self.damage.items()},
        }
