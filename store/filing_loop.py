"""The filer's work, step by step: file what the journal has, publish how far that is, expire, measure.

A step takes the pipeline's next batch (`pipeline.py`), files it (`filing.py`) and publishes the cursor; an expiry pass
(`expiry.py`) goes on between batches. A batch that fails is kept and tried again. While the disk has less than
`reserve_bytes` free it only expires, unless a backlog in the journal is what fills the disk: then filing is what makes
room again, as the journal deletes what is filed and settled.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError

from proxy.journal.errors import JournalError
from proxy.journal.files import Files
from proxy.journal.records import FINAL
from proxy.journal.stream import publish_filed
from store import metrics
from store.errors import CommandError
from store.expiry import Clock, Expiry, ExpiryBlocked
from store.filing import BatchFiler, Cursor, Filing
from store.lock import filer_lock
from store.pipeline import Pipeline
from store.quarantine import Quarantine
from store.settings import StoreSettings
from store.tail import Batch
from store.uidvalidity import Mirror
from store.workers import Workers, WorkerUnusable

GAUGES_EVERY_S = 1.0
ROOM_BACKLOG_BYTES = 256 * 1024 * 1024  # some segments' worth: only whole ones are deleted
ROOM_LEFT_BYTES = 16 * 1024 * 1024  # for the index and its WAL
TROUBLE = (OSError, SQLAlchemyError, JournalError, WorkerUnusable)  # what passes, and is tried again

log = structlog.get_logger("filer")


class FilingLoop:
    """See the module docstring. Works in whichever one thread calls it. Raises Locked, IndexUnusable, OSError."""

    def __init__(
        self,
        settings: StoreSettings,
        *,
        files: Files | None = None,
        workers: Workers | None = None,
        clock: Clock | None = None,
        free_bytes: Callable[[Path], int] | None = None,
    ) -> None:
        self.settings = settings
        self.filed = 0
        self.expired = 0
        self.waiting_for_disk = False
        self.next_expiry = time.monotonic()
        self.backlog_bytes = 0
        self.caught_up = time.monotonic()
        self._free_bytes = free_bytes or (lambda path: shutil.disk_usage(path).free)
        self._lock = contextlib.ExitStack()
        self._lock.enter_context(filer_lock(settings.state_dir))
        try:
            self.quarantine = Quarantine.open(settings)
        except BaseException:
            self._lock.close()
            raise
        self._filer = BatchFiler(self.quarantine, files)
        if workers is None:
            workers = Workers(settings.worker_count)
            workers.warm()
        self._pipeline = Pipeline(settings, self.quarantine.index, workers)
        self._mirror = Mirror(self.quarantine.index, settings.state_dir)
        self.expiry = Expiry(self.quarantine, self._filer, clock)
        self._expiring: Iterator[int] | None = None
        self._expiry_done: list[Future[int]] = []
        self._pass_removed = 0
        self._unpublished: dict[str, Cursor] = {}  # committed, and not told the journal's writers yet
        self._gauges_at = 0.0

    def close(self) -> None:
        """Ends the workers, closes everything. The loop must not be running any more."""
        self._end_pass(CommandError("the filer has been stopped"))
        self._pipeline.close()
        with contextlib.suppress(*TROUBLE):
            self._mirror.write()
        self._filer.close()
        self.quarantine.close()
        self._lock.close()

    def interrupt(self) -> None:
        """From another thread: end a classification that is under way; the step fails, and nothing is lost."""
        self._pipeline.interrupt()

    def take_over(self, settings: StoreSettings) -> None:
        """Use another retention, other patterns and intervals; where things are stays."""
        self.settings = self._pipeline.settings = settings
        self.expiry.retention = settings.retention

    @property
    def undecided(self) -> int:
        """Messages read whose sender has no answer yet."""
        return tail.undecided if (tail := self._pipeline.tail) else 0

    @property
    def damage(self) -> dict[str, tuple[int, int]]:
        """By stream: (places, bytes) of the journal that had to be passed over."""
        return tail.reader.damage() if (tail := self._pipeline.tail) else {}

    @property
    def refused(self) -> dict[str, str]:
        """By stream: why it cannot be read (a later version wrote it)."""
        return tail.reader.refused() if (tail := self._pipeline.tail) else {}

    @property
    def lag_s(self) -> float:
        """Seconds since the whole journal was filed; 0 if it is."""
        return time.monotonic() - self.caught_up if self._pipeline.first() or self.backlog_bytes else 0.0

    def step(self) -> bool:
        """Do what there is to do now, within seconds; False if there was nothing. Raises one of TROUBLE."""
        expiring = self._expire_some()
        busy = self._file_some()
        self._measure()
        return busy or expiring

    def request_expiry(self, *, force: bool) -> Future[int]:
        """Begin a pass (anew); call it between steps. The future gives the number of entries removed."""
        done: Future[int] = Future()
        self._expiring = self.expiry.steps(force=force)
        self._expiry_done.append(done)
        self._pass_removed = 0
        return done

    # -- filing --------------------------------------------------------------------------------------------------

    def _file_some(self) -> bool:
        """File the next batch; others are being classified meanwhile."""
        if self._unpublished:
            with contextlib.suppress(OSError):  # told when it first failed
                self._publish()
        if cursors := self._pipeline.open():
            self._unpublished |= cursors  # a crash may have come between commit and publication
            self._publish()
        self._pipeline.fill()
        batch = self._pipeline.first()
        if batch is None:
            self.caught_up = time.monotonic()
            return False
        free = self._free_bytes(self.settings.state_dir)
        short = bool(batch.decided) and free < self.settings.reserve_bytes
        self.waiting_for_disk = short and not self._makes_room(batch, free)
        metrics.DISK_WAITING.set(self.waiting_for_disk)
        if self.waiting_for_disk:
            return False
        filings = self._pipeline.filings()
        with metrics.BATCH_SECONDS.time():
            self._filer.file(filings, batch.marks, batch.cursors)
        self._pipeline.done()
        self._committed(batch, filings)
        return True

    def _makes_room(self, batch: Batch, free_bytes: int) -> bool:
        """Whether filing gives back more of this disk than it takes: most of the batch is settled, and much waits."""
        size = sum(len(decided.entry.wire) for decided in batch.decided)
        settled = sum(len(d.entry.wire) for d in batch.decided if d.outcomes.refused or d.outcomes.fates <= FINAL)
        directories = (self.settings.state_dir, self.settings.journal_dir)
        one_disk = len({directory.stat().st_dev for directory in directories}) == 1
        enough = free_bytes >= 2 * size + ROOM_LEFT_BYTES
        return one_disk and enough and settled * 4 >= size * 3 and self.backlog_bytes >= ROOM_BACKLOG_BYTES

    def _committed(self, batch: Batch, filings: list[Filing]) -> None:
        self._unpublished |= batch.cursors
        self.filed += len(filings)
        for kind, count in Counter(filing.prepared.kind for filing in filings).items():
            metrics.FILED.labels(kind).inc(count)
        for filing in filings:
            metrics.FILED_BYTES.inc(len(filing.original))
            made = filing.prepared
            log.info("filed", id=made.id, kind=made.kind, category=made.category, folder=made.folder)
        self._publish()
        self._filer.point("published")

    def _publish(self) -> None:
        """Tell the journal's writers how far we are; what the disk does not take now is tried again. Raises OSError."""
        for stream, cursor in list(self._unpublished.items()):
            publish_filed(self.settings.journal_dir, stream, cursor.lsn)
            del self._unpublished[stream]

    # -- the rest ------------------------------------------------------------------------------------------------

    def _expire_some(self) -> bool:
        if self._expiring is None:
            if time.monotonic() < self.next_expiry:
                return False
            self.next_expiry = time.monotonic() + self.settings.expire_interval_s
            self._expiring, self._pass_removed = self.expiry.steps(), 0
        try:
            removed = next(self._expiring)
        except StopIteration:
            self._end_pass(None)
            return False
        except ExpiryBlocked as error:
            self._end_pass(error)
            return False
        except BaseException as error:
            self._end_pass(error)
            raise
        self.expired += removed
        self._pass_removed += removed
        return True

    def _end_pass(self, error: BaseException | None) -> None:
        self._expiring = None
        waiting, self._expiry_done = self._expiry_done, []
        for done in waiting:
            if error is None:
                done.set_result(self._pass_removed)
            else:
                done.set_exception(error)
        if error is None:
            log.info("expiry_pass", removed=self._pass_removed)

    def _measure(self) -> None:
        now = time.monotonic()
        if now - self._gauges_at < GAUGES_EVERY_S:
            return
        self._gauges_at = now
        self._mirror.write()
        self.backlog_bytes = tail.reader.unread_bytes() if (tail := self._pipeline.tail) else 0
        metrics.BACKLOG_BYTES.set(self.backlog_bytes)
        metrics.UNDECIDED.set(self.undecided)
        metrics.LAG_SECONDS.set(self.lag_s)
        metrics.DAMAGED_BYTES.set(sum(size for _, size in self.damage.values()))
