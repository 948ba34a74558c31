"""The filer: journal to quarantine, and expiry. One thread does it all in turns; nothing it meets ends it.

A step takes what the journal's tail has (`tail.py`), has it classified (`workers.py`), files it (`filing.py`) and
publishes the cursor; the next batch is being classified meanwhile. A batch that fails is kept and tried again, ever
more patiently. While the disk has less than `reserve_bytes` free it only expires. A lock in the state directory makes
sure that there is one filer.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import queue
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from proxy.journal.errors import JournalError
from proxy.journal.files import Files
from proxy.journal.records import unstuffed
from proxy.journal.stream import publish_filed
from store import metrics
from store.errors import CommandError, StartError
from store.expiry import Clock, Due, Expiry, ExpiryBlocked
from store.filing import BatchFiler, Cursor, Filing, load_cursors
from store.index import IndexUnusable
from store.prepare import Job
from store.quarantine import Quarantine
from store.settings import StoreSettings
from store.tail import Batch, Tail
from store.uidvalidity import Mirror
from store.workers import Workers, WorkerUnusable

BATCHES = 2  # one is filed while the next is classified
BATCH_BYTES = 32 * 1024 * 1024
RETRY_MIN_S, RETRY_MAX_S = 0.25, 30.0
GAUGES_EVERY_S = 1.0
STOP_TIMEOUT_S = 20.0
_TROUBLE = (OSError, SQLAlchemyError, JournalError, WorkerUnusable)

log = structlog.get_logger("filer")


class Locked(StartError):
    """Another filer runs on this state directory."""


@contextlib.contextmanager
def filer_lock(state_dir: Path) -> Iterator[None]:
    """Be the one filer. Raises Locked, OSError."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(state_dir / "filer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(f"another filer runs on {state_dir}") from None
        yield
    finally:
        os.close(descriptor)


def expire_now(quarantine: Quarantine, *, force: bool) -> int:
    """One whole expiry pass, without a filer running; returns how many entries went.

    Raises Locked, ExpiryBlocked, OSError, SQLAlchemyError.
    """
    with filer_lock(quarantine.settings.state_dir):
        filer = BatchFiler(quarantine)
        try:
            return sum(Expiry(quarantine, filer).steps(force=force))
        finally:
            filer.close()


def due_now(quarantine: Quarantine) -> list[Due]:
    """What an expiry pass would remove now, by folder."""
    return Expiry(quarantine, BatchFiler(quarantine)).due()


class FilingLoop:
    """The filer's work, step by step, in whichever one thread calls it. See the module docstring."""

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
        self.last_error = ""
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
        self._workers = workers or Workers()
        self._mirror = Mirror(self.quarantine.index, settings.state_dir)
        self.expiry = Expiry(self.quarantine, self._filer, clock)
        self._expiring: Iterator[int] | None = None
        self._expiry_done: list[Future[int]] = []
        self._pass_removed = 0
        self._tail: Tail | None = None
        self._batches: deque[Batch] = deque()  # read, and not filed yet
        self._prepared: deque[Future[list[Filing]]] = deque()  # what is made of them
        self._unpublished: dict[str, Cursor] = {}  # committed, and not told the journal's writers yet
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="preparing")
        self._gauges_at = 0.0

    def close(self) -> None:
        """Ends the worker, closes everything. The loop must not be running any more."""
        self._workers.close()
        self._preparing.shutdown(cancel_futures=True)
        if self._tail is not None:
            self._tail.close()
        with contextlib.suppress(*_TROUBLE):
            self._mirror.write()
        self._filer.close()
        self.quarantine.close()
        self._lock.close()

    def interrupt(self) -> None:
        """From another thread: end a classification that is under way; the step fails, and nothing is lost."""
        self._workers.close()

    @property
    def undecided(self) -> int:
        """Messages read whose sender has no answer yet."""
        return self._tail.undecided if self._tail is not None else 0

    @property
    def damage(self) -> dict[str, tuple[int, int]]:
        """By stream: (places, bytes) of the journal that had to be passed over."""
        return self._tail.reader.damage() if self._tail is not None else {}

    @property
    def refused(self) -> dict[str, str]:
        """By stream: why it cannot be read (a later version wrote it)."""
        return self._tail.reader.refused() if self._tail is not None else {}

    @property
    def lag_s(self) -> float:
        """Seconds since the whole journal was filed; 0 if it is."""
        return time.monotonic() - self.caught_up if self._batches or self.backlog_bytes else 0.0

    def step(self) -> bool:
        """Do what there is to do now, within seconds; False if there was nothing. Raises one of _TROUBLE."""
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
        """File the oldest batch; the next one is being classified meanwhile."""
        if self._unpublished:
            with contextlib.suppress(OSError):  # told when it first failed
                self._publish()
        while len(self._batches) < BATCHES:
            batch = self._take()
            if not batch:
                break
            self._batches.append(batch)
            self._prepared.append(self._preparing.submit(self._prepare, batch))
        if not self._batches:
            self.caught_up = time.monotonic()
            return False
        batch = self._batches[0]
        free = self._free_bytes(self.settings.state_dir)
        self.waiting_for_disk = bool(batch.decided) and free < self.settings.reserve_bytes
        metrics.DISK_WAITING.set(self.waiting_for_disk)
        if self.waiting_for_disk:
            return False
        try:
            filings = self._prepared[0].result()
        except Exception:  # no worker, no process, no memory: whatever it was, it is tried anew
            self._prepared[0] = self._preparing.submit(self._prepare, batch)
            raise
        with metrics.BATCH_SECONDS.time():
            self._filer.file(filings, batch.marks, batch.cursors)
        self._batches.popleft()
        self._prepared.popleft()
        self._committed(batch, filings)
        return True

    def _take(self) -> Batch:
        if self._tail is None:
            with self.quarantine.index.read() as connection:
                cursors = load_cursors(connection)
            self._tail = Tail(self.settings.journal_dir, cursors)
            self._unpublished |= cursors  # a crash may have come between commit and publication
            self._publish()
        try:
            return self._tail.take(self.settings.batch_messages, BATCH_BYTES)
        except OSError:  # read on from what is committed
            self._tail.close()
            self._tail = None
            self._batches.clear()
            self._prepared.clear()
            raise

    def _prepare(self, batch: Batch) -> list[Filing]:
        originals = [unstuffed(decided.entry.wire) for decided in batch.decided]
        jobs = [
            Job(
                id=decided.entry.id,
                received_ns=decided.entry.received_ns,
                original=original,
                mail_arg=decided.entry.mail_arg,
                rcpt_args=decided.entry.rcpt_args,
                legacy=decided.outcomes.legacy,
                retention=self.settings.retention,
                patterns=self.settings.patterns,
            )
            for decided, original in zip(batch.decided, originals, strict=True)
        ]
        with metrics.PREPARE_SECONDS.time():
            made = self._workers.prepare(jobs)
        return [
            Filing(decided.entry, original, prepared, decided.outcomes)
            for decided, original, prepared in zip(batch.decided, originals, made, strict=True)
        ]

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
        self.backlog_bytes = self._tail.reader.unread_bytes() if self._tail is not None else 0
        metrics.BACKLOG_BYTES.set(self.backlog_bytes)
        metrics.UNDECIDED.set(self.undecided)
        metrics.LAG_SECONDS.set(self.lag_s)
        metrics.DAMAGED_BYTES.set(sum(size for _, size in self.damage.values()))


class Filer:
    """The part that the shell runs: a `FilingLoop` in a thread of its own."""

    def __init__(self, settings: StoreSettings, **injected: Any) -> None:
        self._settings = settings
        self._injected = injected
        self._loop: FilingLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._errands: queue.SimpleQueue[Callable[[FilingLoop], None]] = queue.SimpleQueue()
        self._last_error = ""
        self._last_error_at = 0.0

    async def start(self) -> None:
        """Files when it returns. Raises StartError."""
        try:
            loop = await asyncio.to_thread(FilingLoop, self._settings, **self._injected)
        except (IndexUnusable, OSError, SQLAlchemyError) as error:
            raise StartError(f"the filer cannot start: {error}") from error
        self._loop = loop
        self._thread = threading.Thread(target=self._run, args=(loop,), name="filer", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Finish the step under way (bounded), then close. Idempotent."""
        self._stopping.set()
        self._woken.set()
        thread, loop, self._thread = self._thread, self._loop, None
        if thread is None or loop is None:
            return
        await asyncio.to_thread(thread.join, STOP_TIMEOUT_S / 2)
        if thread.is_alive():
            loop.interrupt()
            await asyncio.to_thread(thread.join, STOP_TIMEOUT_S / 2)
        if not thread.is_alive():
            await asyncio.to_thread(loop.close)

    async def reload(self, settings: StoreSettings) -> None:
        """Take over retention, patterns and intervals; where things are stays."""

        def take_over(loop: FilingLoop) -> None:
            loop.settings = settings
            loop.expiry.retention = settings.retention

        await self._errand(take_over)

    def status(self) -> dict[str, Any]:
        """JSON-able."""
        loop = self._loop
        if loop is None:
            return {"state": "not started"}
        return {
            "filed": loop.filed,
            "expired": loop.expired,
            "backlog_bytes": loop.backlog_bytes,
            "undecided": loop.undecided,
            "lag_s": round(loop.lag_s, 3),
            "waiting_for_disk": loop.waiting_for_disk,
            "next_expiry_s": max(0, round(loop.next_expiry - time.monotonic())),
            "expiry_blocked": loop.expiry.blocked,
            "damage": {stream: {"places": p, "bytes": b} for stream, (p, b) in loop.damage.items()},
            "unreadable_streams": loop.refused,
            "last_error": self._last_error,
            "last_error_s_ago": round(time.monotonic() - self._last_error_at) if self._last_error else None,
        }

    async def command(self, name: str, args: dict[str, Any]) -> dict[str, Any]:
        """`expire` {"dry_run": bool, "force": bool}; raises CommandError."""
        if name != "expire":
            raise CommandError(f"the filer has no command {name!r}")
        loop = self._loop
        if loop is None:
            raise CommandError("the filer has not started")
        if args.get("dry_run"):
            due = await asyncio.to_thread(loop.expiry.due)
            return {"due": [[d.folder, d.messages, d.bytes, d.held] for d in due]}
        passed = await self._errand(lambda loop: loop.request_expiry(force=bool(args.get("force"))))
        try:
            return {"removed": await asyncio.wrap_future(passed)}
        except (ExpiryBlocked, *_TROUBLE) as error:
            raise CommandError(f"expiry has stopped: {error}") from error

    async def _errand(self, do: Callable[[FilingLoop], Any]) -> Any:
        """Have something done between two steps. Raises CommandError where nothing is running."""
        if self._stopping.is_set() or self._thread is None:
            raise CommandError("the filer is not running")
        done: Future[Any] = Future()

        def run(loop: FilingLoop) -> None:
            try:
                done.set_result(do(loop))
            except Exception as error:  # whatever it is belongs to the one who asked
                done.set_exception(error)

        self._errands.put(run)
        self._woken.set()
        return await asyncio.wrap_future(done)

    def _run(self, loop: FilingLoop) -> None:
        retry_s = RETRY_MIN_S
        while not self._stopping.is_set():
            self._woken.clear()
            while not self._errands.empty():
                self._errands.get()(loop)
            try:
                if loop.step():
                    retry_s = RETRY_MIN_S
                    continue
                pause_s = 1.0 if loop.waiting_for_disk else self._settings.poll_interval_s
            except Exception as error:  # the filer outlives whatever it meets; the journal waits
                if self._stopping.is_set():
                    return
                self._note(error)
                pause_s, retry_s = retry_s, min(retry_s * 2, RETRY_MAX_S)
            self._woken.wait(pause_s)

    def _note(self, error: Exception) -> None:
        metrics.ERRORS.inc()
        # SQLAlchemy would add the statement and its values: addresses do not belong in a log.
        text = str(getattr(error, "orig", None) or error)[:300]
        self._last_error, self._last_error_at = f"{type(error).__name__}: {text}", time.monotonic()
        if isinstance(error, _TROUBLE):
            log.error("filing_failed", error=text, type=type(error).__name__)
        else:
            log.error("filing_failed", error=text, exc_info=error)
