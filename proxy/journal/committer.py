"""The thread that owns the disk: takes all that is pending, writes it with one fsync, tells the event loop.

While one fsync runs the next batch gathers: that is the whole of group commit. The thread owns every `StreamLog`;
other file work of the writer (deleting segments) comes to it as a job, in order with the records.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.journal.codec import ENTRY
from proxy.journal.errors import JournalError
from proxy.journal.files import Files
from proxy.journal.log import StreamLog

_BATCH_RECORDS = 4096
_BATCH_BYTES = 16 * 1024 * 1024
_IDLE_S = 1.0
_STOP_TIMEOUT_S = 10.0  # for an fsync that hangs: then the thread is left to it


class Pending:
    """A record on its way to the disk, and who waits for it.

    `key` names the fact that a mark tells, so that a later one can replace it.
    """

    __slots__ = ("future", "ident", "key", "kind", "log", "lsn", "parts", "seq", "size_bytes")

    def __init__(
        self,
        log: StreamLog,
        kind: int,
        ident: str,
        parts: Sequence[bytes],
        future: Future[int] | None,
        key: tuple[object, ...] = (),
    ) -> None:
        self.log = log
        self.kind = kind
        self.ident = ident
        self.parts = parts
        self.size_bytes = sum(map(len, parts))
        self.future = future
        self.key = key
        self.lsn = -1
        self.seq = -1


Done = list[tuple[Pending, Exception | None]]


@dataclass(frozen=True, slots=True)
class Job:
    """Something else to do on the thread, and who waits for it."""

    function: Callable[[], None]
    future: Future[None]


class Committer:
    """Starts its thread at once. `completed` is called on the loop with each batch's fate.

    `free_bytes` is the file system's free space as of the last commit or second; `last_error` the last failure's text,
    `failed` whether the last commit failed.
    """

    def __init__(
        self, loop: AbstractEventLoop, files: Files, directory: Path, completed: Callable[[Done], None]
    ) -> None:
        self.free_bytes = 0
        self.failed = False
        self.last_error = ""
        self._loop = loop
        self._files = files
        self._directory = directory
        self._completed = completed
        self._queue: queue.SimpleQueue[Pending | Job | None] = queue.SimpleQueue()
        self._carried: dict[StreamLog, dict[tuple[object, ...], Pending]] = {}
        self._stopped = False
        self._ended: Future[None] = loop.create_future()
        self._measure()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def put(self, pending: Pending) -> None:
        """Thread-safe, never blocks."""
        self._queue.put(pending)

    def call(self, function: Callable[[], None]) -> Future[None]:
        """Run `function` on the thread after all that was put before; its exception becomes the future's."""
        future: Future[None] = self._loop.create_future()
        if self._stopped:
            future.set_exception(JournalError("the journal is closed"))
        else:
            self._queue.put(Job(function, future))
        return future

    def flush(self) -> Future[None]:
        """Resolves once all that was put before has been tried."""
        return self.call(_nothing)

    def carries(self, log: StreamLog) -> int:
        """Marks of a stream that wait for a disk that works again."""
        return len(self._carried.get(log, ()))

    async def stop(self) -> list[Pending]:
        """Commit what is pending, end the thread, return the marks that could not be written. Call it once.

        Raises TimeoutError if the disk hangs: the thread, and every future it owes, is then left behind.
        """
        self._stopped = True
        self._queue.put(None)
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            await self._ended
        return [pending for marks in self._carried.values() for pending in marks.values()]

    def _run(self) -> None:
        running = True
        while running:
            records, job, running = self._take()
            for log, batch in records.items():
                self._commit(log, batch)
            self._measure()
            if job is not None:
                try:
                    job.function()
                except Exception as error:  # whatever it is belongs to whoever waits
                    self._tell(_fail, job.future, error)
                else:
                    self._tell(_succeed, job.future)
        self._tell(_succeed, self._ended)

    def _take(self) -> tuple[dict[StreamLog, list[Pending]], Job | None, bool]:
        """All that is pending up to the first job; waits, but not for longer than a second; False at the end."""
        records: dict[StreamLog, list[Pending]] = {log: [] for log, marks in self._carried.items() if marks}
        size = count = 0
        try:
            item = self._queue.get(timeout=_IDLE_S)
            while isinstance(item, Pending):
                records.setdefault(item.log, []).append(item)
                size += item.size_bytes
                count += 1
                if size >= _BATCH_BYTES or count >= _BATCH_RECORDS:
                    return records, None, True
                item = self._queue.get_nowait()
        except queue.Empty:
            return records, None, True
        return records, item, item is not None

    def _commit(self, log: StreamLog, batch: list[Pending]) -> None:
        carried = self._carried.pop(log, {})
        batch = [*carried.values(), *batch]
        try:
            log.commit(batch)
        except Exception as error:  # whatever it is, the thread goes on: nobody else can say that a record failed
            self.failed = True
            self.last_error = str(error) or type(error).__name__
            self._tell(self._completed, self._sort_out(log, batch, error))
        else:
            self.failed = False
            self._tell(self._completed, [(pending, None) for pending in batch])

    def _sort_out(self, log: StreamLog, batch: list[Pending], error: Exception) -> Done:
        """Entries fail; marks stay for the next segment, but for those of the entries that failed here."""
        done: Done = [(pending, error) for pending in batch if pending.kind == ENTRY]
        lost = {pending.ident for pending, _ in done}
        marks = self._carried.setdefault(log, {})
        for pending in batch:
            if pending.kind == ENTRY:
                continue
            if pending.ident in lost:
                done.append((pending, error))
                continue
            replaced = marks.pop(pending.key, None)
            if replaced is not None:
                done.append((replaced, error))
            marks[pending.key] = pending
        return done

    def _measure(self) -> None:
        with contextlib.suppress(OSError):
            self.free_bytes = self._files.free_bytes(self._directory)

    def _tell(self, function: Callable[..., None], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(function, *args)


def _nothing() -> None:
    """A job that is only its place in the queue."""


def _succeed(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
