"""Runs one part (proxy, filer or imap) in this process, until SIGTERM.

All parts are alike to the shell (docs/internals.md): start, stop, status, command. Each part is imported only
where it is made, so that the proxy's process never loads the store, the classifier or the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import prometheus_client
import structlog
import uvloop

from bouncetap import logs, sdnotify
from bouncetap.config import Config, load
from bouncetap.control import AlreadyRuns, Controlled, ControlServer, be_the_only_one, socket_path
from bouncetap.http import start_http
from bouncetap.lifeline import stop_with_parent

DESCRIPTORS = 65_536
LARGE_BUFFER_BYTES = 4 * 1024 * 1024
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of mallopt(3)
log = structlog.get_logger("shell")


class Part(Controlled, Protocol):
    """A long-running part."""

    async def start(self) -> None:
        """Listens or runs when it returns."""
        ...

    async def stop(self) -> None:
        """Finishes what runs, flushes, closes."""
        ...

    async def reload(self, settings: Any) -> None:
        """Takes over what can change while it runs."""
        ...


def _proxy_settings(config: Config) -> Any:
    from bouncetap.config.for_proxy import proxy_settings

    return proxy_settings(config)


def _filer_settings(config: Config) -> Any:
    from bouncetap.config.for_store import store_settings

    return store_settings(config)


def _imap_settings(config: Config) -> Any:
    from bouncetap.config.for_store import imap_settings

    return imap_settings(config)


SETTINGS: dict[str, Callable[[Config], Any]] = {
    "proxy": _proxy_settings,
    "filer": _filer_settings,
    "imap": _imap_settings,
}


def _make(name: str, config: Config) -> Part:
    """The part, with its settings; imports nothing of the other parts."""
    settings = SETTINGS[name](config)
    if name == "proxy":
        from proxy.server import ProxyServer

        return ProxyServer(settings)
    if name == "filer":
        from store.filer import Filer

        return Filer(settings)
    from store.imap.server import ImapServer

    return ImapServer(settings)


def run_part(name: str, config: Config, supervisor_fd: int | None = None) -> int:
    """Runs the part until it is told to stop; the exit code. `supervisor_fd` closes when the supervisor dies."""
    logs.configure(name, fmt=config["log.format"], level=config["log.level"], redact=config["log.redact"])
    os.umask(0o077)  # whatever is written holds mail, addresses or password hashes
    _raise_descriptor_limit()
    if name != "proxy":
        return_large_buffers()
    _rename_process_metrics(name)
    try:
        config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        be_the_only_one(config.state_dir, name)
    except (AlreadyRuns, OSError) as error:
        return _not_started(error)
    return uvloop.run(_serve(name, config, supervisor_fd))


def _not_started(error: Exception) -> int:
    """One clear line, whatever it was; the exit code."""
    log.error("start_failed", error=str(error), type=type(error).__name__)
    return 1


def _raise_descriptor_limit() -> None:
    """As many descriptors as we may have: a flood of connections must not leave none for the journal."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def return_large_buffers() -> None:
    """Give the memory of a large message back to the system as soon as it is free, not keep it for the next one.

    Else glibc holds several such buffers for each thread (500 MB instead of 180 after a folder of 20 MB messages).
    """
    import ctypes

    with contextlib.suppress(OSError, AttributeError):  # no glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, LARGE_BUFFER_BYTES)
        libc.mallopt(_M_ARENA_MAX, 2)


def _rename_process_metrics(name: str) -> None:
    """Memory, CPU and descriptors of this process under the part's own name; the three generic collectors go."""
    for collector in (prometheus_client.PROCESS_COLLECTOR, prometheus_client.PLATFORM_COLLECTOR):
        prometheus_client.REGISTRY.unregister(collector)
    prometheus_client.REGISTRY.unregister(prometheus_client.GC_COLLECTOR)
    prometheus_client.ProcessCollector(namespace=f"bouncetap_{name}")


async def _serve(name: str, config: Config, supervisor_fd: int | None) -> int:
    part = _make(name, config)
    control = ControlServer(part, socket_path(config.state_dir, name), lambda: _reload(name, part, config))
    stopping = asyncio.Event()
    hangups = _handle_signals(stopping, lambda: _reload(name, part, config))
    if supervisor_fd is not None:
        stop_with_parent(supervisor_fd, stopping.set)
    try:
        await part.start()
        await control.start()
    except Exception as error:
        with contextlib.suppress(Exception):
            await part.stop()
        return _not_started(error)
    http = start_http(config) if name == "proxy" and supervisor_fd is None else None
    gc.freeze()  # what start-up built stays: no need to walk it in every collection
    log.info("started", pid=os.getpid())
    sdnotify.ready()
    watchdog = asyncio.ensure_future(sdnotify.keep_watchdog_fed())
    await stopping.wait()
    sdnotify.stopping()
    log.info("stopping")
    for task in (watchdog, *hangups):
        task.cancel()
    await part.stop()
    await control.stop()
    if http:
        http.stop()
    log.info("stopped")
    return 0


def _handle_signals(stopping: asyncio.Event, reload: Callable[[], Awaitable[Any]]) -> set[asyncio.Future[Any]]:
    """SIGTERM and SIGINT stop, SIGHUP reloads; the reloads under way."""
    loop = asyncio.get_running_loop()
    under_way: set[asyncio.Future[Any]] = set()

    def hang_up() -> None:
        task = asyncio.ensure_future(reload())
        under_way.add(task)
        task.add_done_callback(forget)

    def forget(task: asyncio.Future[Any]) -> None:
        under_way.discard(task)
        if not task.cancelled():
            task.exception()  # logged where it arose

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, hang_up)
    return under_way


async def _reload(name: str, part: Part, started_with: Config) -> dict[str, Any]:
    """Reads the file again and hands it to the part; which options have changed that only a restart takes over.

    Raises what is wrong with the file; the old one stays in force then.
    """
    try:
        fresh = await asyncio.to_thread(load, started_with.path, serving=True)
        await part.reload(SETTINGS[name](fresh))
    except Exception as error:
        log.error("reload_failed", error=str(error))
        raise
    waiting = fresh.waiting_for_restart(started_with)
    log.info("reloaded", needs_restart=waiting)
    return {"needs_restart": waiting}
