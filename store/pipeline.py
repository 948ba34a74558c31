"""From the journal's tail to batches that are ready to be filed: read and classified ahead, handed out in order.

Every worker has a batch, and one more is ready or being filed. What cannot be prepared now (no process, no memory) is
tried anew; when the journal cannot be read, all that is not filed yet is read again from what is committed. A disk
that fails to read the same journal for long has a bad sector: what lies on it is passed over, or nothing behind it
would ever be filed.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass

from proxy.journal.records import unstuffed
from store import metrics
from store.filing import Cursor, Filing, load_cursors
from store.index import Index
from store.prepare import job_for
from store.settings import StoreSettings
from store.tail import Batch, Tail
from store.workers import Worker, Workers

BATCH_BYTES = 16 * 1024 * 1024
UNREADABLE_AFTER_S = 600.0  # of failing reads in a row; until then the disk may come back
RETRIED_WITHIN_S = 120.0  # a read that fails is tried again sooner than that


@dataclass(slots=True)
class _Ahead:
    batch: Batch
    filings: Future[list[Filing]]


class Pipeline:
    """Not thread-safe. `settings` may be replaced at any time."""

    def __init__(self, settings: StoreSettings, index: Index, workers: Workers) -> None:
        self.settings = settings
        self._index = index
        self._workers = workers
        self._tail: Tail | None = None
        self._ahead: deque[_Ahead] = deque()
        self._failing: tuple[float, float] | None = None  # first and last failure in a row to read (monotonic)

    def open(self) -> dict[str, Cursor]:
        """Begin to read where the index says that filing has come to; gives those cursors, {} if it is open already.

        Raises SQLAlchemyError.
        """
        if self._tail is not None:
            return {}
        with self._index.read() as connection:
            cursors = load_cursors(connection)
        self._tail = Tail(self.settings.journal_dir, cursors, forgiving=self._bad_sector())
        return cursors

    def close(self) -> None:
        """Ends the workers, and gives the journal's descriptors back."""
        self._workers.close()
        self._forget()

    def interrupt(self) -> None:
        """From another thread: end what is being classified; nothing is lost."""
        self._workers.interrupt()

    @property
    def tail(self) -> Tail | None:
        """The journal's tail, once it is open."""
        return self._tail

    def fill(self) -> None:
        """Read as many batches as may be under way. Raises OSError."""
        assert self._tail is not None
        while len(self._ahead) <= self._workers.count:
            try:
                batch = self._tail.take(self.settings.batch_messages, BATCH_BYTES)
            except OSError as error:
                self._forget()
                if error.errno == errno.EIO:
                    self._note_failure()
                raise
            if not batch:
                return
            self._ahead.append(_Ahead(batch, self._submit(batch)))

    def first(self) -> Batch | None:
        """The batch to be filed next; it stays so until `done`."""
        return self._ahead[0].batch if self._ahead else None

    def filings(self) -> list[Filing]:
        """What was made of the first batch; waits for it. Raises what preparing it met, and then begins it anew."""
        first = self._ahead[0]
        try:
            return first.filings.result()
        except Exception:
            first.filings = self._submit(first.batch)
            raise

    def done(self) -> None:
        """The first batch has been filed."""
        self._ahead.popleft()

    def _submit(self, batch: Batch) -> Future[list[Filing]]:
        settings = self.settings
        return self._workers.submit(lambda worker: _prepared(worker, batch, settings))

    def _note_failure(self) -> None:
        now = time.monotonic()
        first, last = self._failing or (now, now)
        self._failing = (first if now - last < RETRIED_WITHIN_S else now, now)

    def _bad_sector(self) -> bool:
        if self._failing is None:
            return False
        first, last = self._failing
        return last - first >= UNREADABLE_AFTER_S

    def _forget(self) -> None:
        if self._tail is not None:
            self._tail.close()
        self._tail = None
        self._ahead.clear()


def _prepared(worker: Worker, batch: Batch, settings: StoreSettings) -> list[Filing]:
    originals = [unstuffed(decided.entry.wire) for decided in batch.decided]
    jobs = [
        job_for(decided.entry, original, decided.outcomes.legacy, settings)
        for decided, original in zip(batch.decided, originals, strict=True)
    ]
    with metrics.PREPARE_SECONDS.time():
        made = worker.prepare(jobs)
    return [
        Filing(decided.entry, original, prepared, decided.outcomes)
        for decided, original, prepared in zip(batch.decided, originals, made, strict=True)
    ]
