"""`bouncetap run`: proxy, filer and IMAP server as child processes, restarted when they die.

The proxy comes first and is the one that matters: if it cannot start at all, `run` ends with its exit code. The
other two are restarted for ever with a growing pause; whatever becomes of them, the proxy is left alone. Each child
holds the read end of a pipe whose write end only the supervisor has: if the supervisor dies, even by SIGKILL, the
children see end of file and stop in an orderly way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass, field

import structlog

from bouncetap import logs, sdnotify
from bouncetap.config import Config
from bouncetap.control import PARTS, Unreachable, ask
from bouncetap.http import HttpServer, start_http
from bouncetap.lifeline import stop_with_parent

READY_POLL_S = 0.05
PAUSE_MIN_S = 0.5
PAUSE_MAX_S = 30.0
STEADY_S = 60.0  # a child that ran this long is restarted at once
SYSTEMD = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})  # it hears us, and nobody else of ours
log = structlog.get_logger("supervisor")


@dataclass
class Child:
    """One part's process and how often it had to be started."""

    part: str
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0
    pause_s: float = PAUSE_MIN_S
    ready: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Runs the parts until `stop()`; see the module docstring."""

    def __init__(self, config: Config, supervisor_fd: int | None = None) -> None:
        """`supervisor_fd`, if any, closes when whoever started us is gone."""
        self._config = config
        self._supervisor_fd = supervisor_fd
        self._children = {part: Child(part) for part in PARTS}
        self._stopping = asyncio.Event()
        self._life, self._hold = os.pipe()
        self._http: HttpServer | None = None
        self.exit_code = 0

    async def run(self) -> int:
        """Starts everything, waits for the end, stops everything; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._forward_hangup)
        if self._supervisor_fd is not None:
            stop_with_parent(self._supervisor_fd, self.stop)
        keepers = [loop.create_task(self._keep(self._children["proxy"]))]
        await self._proxy_ready_or_stopped()
        if not self._stopping.is_set():
            self._http = start_http(self._config)
            sdnotify.ready()
            keepers += [loop.create_task(self._keep(self._children[part])) for part in PARTS if part != "proxy"]
            watchdog = loop.create_task(sdnotify.keep_watchdog_fed())
            await self._stopping.wait()
            watchdog.cancel()
        sdnotify.stopping()
        for child in self._children.values():
            self._signal(child, signal.SIGTERM)
        await asyncio.gather(*keepers)
        if self._http:
            self._http.stop()
        return self.exit_code

    def stop(self) -> None:
        """Begins the orderly stop."""
        self._stopping.set()

    async def _proxy_ready_or_stopped(self) -> None:
        waits = {
            asyncio.ensure_future(self._children["proxy"].ready.wait()),
            asyncio.ensure_future(self._stopping.wait()),
        }
        _, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in pending:
            wait.cancel()

    async def _keep(self, child: Child) -> None:
        """Keeps one part running until the stop."""
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            started_at = loop.time()
            child.process = await self._spawn(child.part)
            if self._stopping.is_set():  # while it was being made: nobody else would tell it
                self._signal(child, signal.SIGTERM)
            watcher = loop.create_task(self._watch_ready(child))
            code = await child.process.wait()
            watcher.cancel()
            if self._stopping.is_set():
                return
            if child.part == "proxy" and not child.ready.is_set():
                self.exit_code = code if code > 0 else 1
                self.stop()
                return
            child.restarts += 1
            if loop.time() - started_at > STEADY_S:
                child.pause_s = PAUSE_MIN_S
            log.error("part_died", died=child.part, code=code, restarts=child.restarts, pause_s=child.pause_s)
            await self._pause(child.pause_s)
            child.pause_s = min(child.pause_s * 2, PAUSE_MAX_S)

    async def _spawn(self, part: str) -> asyncio.subprocess.Process:
        config = ["--config", str(self._config.path)] if self._config.path else []
        environment = {name: value for name, value in os.environ.items() if name not in SYSTEMD}
        # -P: a directory "bouncetap" in the current one, such as a clone of this, must not stand in for the program
        return await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "bouncetap", part, *config, "--supervisor-fd", str(self._life), env=environment,
            pass_fds=[self._life], stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    async def _watch_ready(self, child: Child) -> None:
        while not child.ready.is_set():
            with contextlib.suppress(Unreachable, ValueError):
                answer = await ask(self._config.state_dir, child.part, "status", timeout_s=1.0)
                if child.process is not None and answer.get("pid") == child.process.pid:
                    child.ready.set()
            await asyncio.sleep(READY_POLL_S)

    async def _pause(self, pause_s: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), pause_s)
        except TimeoutError:
            return

    def _forward_hangup(self) -> None:
        for child in self._children.values():
            self._signal(child, signal.SIGHUP)

    @staticmethod
    def _signal(child: Child, number: signal.Signals) -> None:
        if child.process is not None and child.process.returncode is None:
            child.process.send_signal(number)


def run(config: Config, supervisor_fd: int | None = None) -> int:
    """Runs everything; the exit code."""
    logs.configure("supervisor", fmt=config["log.format"], level=config["log.level"], redact=config["log.redact"])

    async def main() -> int:
        return await Supervisor(config, supervisor_fd).run()

    return asyncio.run(main())
