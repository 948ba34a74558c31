"""The filer's end of the worker processes: no message can crash, hang or bloat more than a process that is replaced.

Results come one by one, so the message that a worker died of is known: it is the first without one. It gets a second
chance, alone in a fresh worker; when that dies too, the message is filed as `other`, `unparsable`, and the rest go on.
A worker is also replaced after 20,000 messages or when it has grown: a leak stays small.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import structlog

from store import metrics
from store.prepare import Job, Prepared, unreadable
from store.wire import receive, send

TIMEOUT_S = 30.0
START_TIMEOUT_S = 60.0
GROUP_MESSAGES, GROUP_BYTES = 50, 4_000_000
RECYCLE_MESSAGES, RECYCLE_BYTES = 20_000, 400_000_000

log = structlog.get_logger("filer")

T = TypeVar("T")


class WorkerUnusable(RuntimeError):
    """A worker does not even start: not the fault of any message."""


class Worker:
    """Prepares messages in a process of its own, which is started on use. `close` may be called from another thread."""

    def __init__(self, target: str = "store.prepare:prepare", timeout_s: float = TIMEOUT_S) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._done = 0
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The worker's process id, if one runs."""
        return self._process.pid if self._process is not None else None

    def warm(self) -> None:
        """Start it before it is needed: the rules take seconds to load. Raises WorkerUnusable."""
        if self._link is None:
            self._start()

    def prepare(self, jobs: Sequence[Job]) -> list[Prepared]:
        """All jobs, in their order. Raises WorkerUnusable where no worker can be had."""
        results: list[Prepared] = []
        for group in _groups(jobs):
            left = group
            while left:
                answers = list(self._answers(left))
                results += answers
                left = left[len(answers) :]
                if left:
                    results.append(self._suspect(left[0]))
                    left = left[1:]
        return results

    def close(self) -> None:
        """End the worker, whatever it does; `prepare` raises WorkerUnusable from now on."""
        self._closed = True
        self._stop()

    def _suspect(self, job: Job) -> Prepared:
        """Try a message, that a worker has died of, by itself."""
        answers = list(self._answers([job]))
        if answers:
            return answers[0]
        metrics.UNREADABLE.inc()
        log.error("message_unreadable", id=job.id, size_bytes=len(job.original))
        return unreadable(job, "the classifier died of it twice")

    def _answers(self, jobs: Sequence[Job]) -> Iterator[Prepared]:
        """Results in order, until the worker dies or takes too long."""
        link = self._link or self._start()
        try:
            send(link, pickle.dumps(list(jobs)))
            for _ in jobs:
                yield pickle.loads(receive(link))  # noqa: S301  # our own worker's
            grown = int(receive(link)) > RECYCLE_BYTES
        except (OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
            if self._closed:
                raise WorkerUnusable("the filer is stopping") from error
            metrics.WORKER_DEATHS.inc()
            log.warning("worker_died", error=type(error).__name__, exit_code=self._stop())
            return
        self._done += len(jobs)
        if grown or self._done >= RECYCLE_MESSAGES:
            self._stop()

    def _start(self) -> socket.socket:
        if self._closed:
            raise WorkerUnusable("the filer is stopping")
        ours, theirs = socket.socketpair()
        with theirs:
            paths = os.pathsep.join(path for path in sys.path if path)
            module = [sys.executable, "-P", "-m", "store.worker"]  # -P: nothing from the current directory
            command = [*module, str(theirs.fileno()), str(self._timeout_s), self._target]
            self._process = subprocess.Popen(  # noqa: S603  # our own program
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": paths},
            )
        self._link, self._done = ours, 0
        try:
            ours.settimeout(START_TIMEOUT_S)
            receive(ours)
            ours.settimeout(self._timeout_s)
        except (OSError, EOFError) as error:
            exit_code = self._stop()
            raise WorkerUnusable(f"the worker does not start (exit code {exit_code})") from error
        return ours

    def _stop(self) -> int | None:
        process, link = self._process, self._link
        self._process = self._link = None
        if link is not None:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits in it
            link.close()
        if process is None:
            return None
        process.kill()
        return process.wait()


class Workers:
    """`count` workers, each with a thread that waits for it."""

    def __init__(self, count: int = 1, make: Callable[[], Worker] = Worker) -> None:
        self.count = count
        self.all = [make() for _ in range(count)]
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()  # a warm one first
        for worker in self.all:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="preparing")

    def warm(self) -> None:
        """Start one, so that the first message need not wait for it; what goes wrong shows when it is needed."""
        self.submit(Worker.warm)

    def submit(self, work: Callable[[Worker], T]) -> Future[T]:
        """Have `work` done with the next worker that is free."""
        return self._threads.submit(self._with_one, work)

    def _with_one(self, work: Callable[[Worker], T]) -> T:
        worker = self._idle.get()
        try:
            return work(worker)
        finally:
            self._idle.put(worker)

    def interrupt(self) -> None:
        """End all workers, whatever they do."""
        for worker in self.all:
            worker.close()

    def close(self) -> None:
        """The same, and wait for the threads."""
        self.interrupt()
        self._threads.shutdown(cancel_futures=True)


def _groups(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    group: list[Job] = []
    size = 0
    for job in jobs:
        if group and (len(group) >= GROUP_MESSAGES or size + len(job.original) > GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(job)
        size += len(job.original)
    if group:
        yield group
