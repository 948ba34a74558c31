"""The filer, as the shell runs it: a `FilingLoop` in a thread of its own, which nothing it meets ends.

What fails is tried again, ever more patiently; the journal waits. Commands are errands that are run between two steps.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from store import metrics
from store.errors import CommandError, StartError
from store.expiry import ExpiryBlocked
from store.filing_loop import TROUBLE, FilingLoop
from store.index import IndexUnusable
from store.settings import StoreSettings

RETRY_MIN_S, RETRY_MAX_S = 0.25, 30.0
STOP_TIMEOUT_S = 20.0

log = structlog.get_logger("filer")


class Filer:
    """The part; see docs/internals.md for its methods. `injected` goes to the `FilingLoop`."""

    def __init__(self, settings: StoreSettings, **injected: Any) -> None:
        self._settings = settings
        self._injected = injected
        self._loop: FilingLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._errands: queue.SimpleQueue[tuple[Future[Any], Callable[[FilingLoop], Any]]] = queue.SimpleQueue()
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
        while not self._errands.empty():
            self._errands.get()[0].set_exception(CommandError("the filer has been stopped"))

    async def reload(self, settings: StoreSettings) -> None:
        """Take over retention, patterns and intervals; where things are stays."""
        await self._errand(lambda loop: loop.take_over(settings))

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
        except (ExpiryBlocked, *TROUBLE) as error:
            raise CommandError(f"expiry has stopped: {error}") from error

    async def _errand(self, do: Callable[[FilingLoop], Any]) -> Any:
        """Have something done between two steps. Raises CommandError where nothing is running."""
        if self._stopping.is_set() or self._thread is None:
            raise CommandError("the filer is not running")
        done: Future[Any] = Future()
        self._errands.put((done, do))
        self._woken.set()
        return await asyncio.wrap_future(done)

    def _run(self, loop: FilingLoop) -> None:
        retry_s = RETRY_MIN_S
        while not self._stopping.is_set():
            self._woken.clear()
            while not self._errands.empty():
                done, do = self._errands.get()
                try:
                    done.set_result(do(loop))
                except Exception as error:  # whatever it is belongs to the one who asked
                    done.set_exception(error)
            try:
                if loop.step():
                    retry_s = RETRY_MIN_S
                    continue
                pause_s = 1.0 if loop.waiting_for_disk else loop.settings.poll_interval_s
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
        if isinstance(error, TROUBLE):
            log.error("filing_failed", error=text, type=type(error).__name__)
        else:
            log.error("filing_failed", error=text, exc_info=error)
