"""Runs one part (proxy, filer or imap) in this process, until SIGTERM.

All parts are alike to the shell (docs/internals.md): start, stop, status, command. Each factory imports its part
itself, so that the proxy's process never loads the store, the classifier or the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import Callable
from typing import Any, Protocol

import prometheus_client
import structlog
import uvloop

from bouncetap import logs, sdnotify
from bouncetap.config import Config, load
from bouncetap.control import Controlled, ControlServer, socket_path

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


def _proxy(config: Config) -> tuple[Part, Any]:
    from bouncetap.config.for_proxy import proxy_settings
    from proxy.server import ProxyServer

    settings = proxy_settings(config)
    return ProxyServer(settings), settings


def _filer(config: Config) -> tuple[Part, Any]:
    from bouncetap.config.for_store import store_settings
    from store.filer import Filer

    settings = store_settings(config)
    return Filer(settings), settings


def _imap(config: Config) -> tuple[Part, Any]:
    from bouncetap.config.for_store import imap_settings
    from store.imap.server import ImapServer

    settings = imap_settings(config)
    return ImapServer(settings), settings


FACTORIES: dict[str, Callable[[Config], tuple[Part, Any]]] = {"proxy": _proxy, "filer": _filer, "imap": _imap}


def run_part(name: str, config: Config, supervisor_fd: int | None = None) -> int:
    """Runs the part until it is told to stop; the exit code. `supervisor_fd` closes when the supervisor dies."""
    logs.configure(name, fmt=config["log.format"], level=config["log.level"], redact=config["log.redact"])
    config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    _rename_process_metrics(name)
    return uvloop.run(_serve(name, config, supervisor_fd))


def _rename_process_metrics(name: str) -> None:
    """Memory, CPU and descriptors of this process under the part's own name; the three generic collectors go."""
    for collector in (prometheus_client.PROCESS_COLLECTOR, prometheus_client.PLATFORM_COLLECTOR):
        prometheus_client.REGISTRY.unregister(collector)
    prometheus_client.REGISTRY.unregister(prometheus_client.GC_COLLECTOR)
    prometheus_client.ProcessCollector(namespace=f"bouncetap_{name}")


async def _serve(name: str, config: Config, supervisor_fd: int | None) -> int:
    part, _ = FACTORIES[name](config)
    control = ControlServer(part, socket_path(config.state_dir, name))
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    reloads: set[asyncio.Task[None]] = set()
    loop.add_signal_handler(signal.SIGHUP, lambda: reloads.add(loop.create_task(_reload(name, part, config))))
    if supervisor_fd is not None:
        loop.add_reader(supervisor_fd, _at_end_of_file(supervisor_fd, stopping))
    try:
        await part.start()
    except Exception as error:  # one clear line, whatever it was
        log.error("start_failed", error=str(error), type=type(error).__name__)
        with contextlib.suppress(Exception):
            await part.stop()
        return 1
    await control.start()
    gc.freeze()  # what start-up built stays: no need to walk it in every collection
    log.info("started", pid=os.getpid())
    sdnotify.ready()
    watchdog = loop.create_task(sdnotify.keep_watchdog_fed())
    await stopping.wait()
    sdnotify.stopping()
    log.info("stopping")
    watchdog.cancel()
    await part.stop()
    await control.stop()
    log.info("stopped")
    return 0


def _at_end_of_file(descriptor: int, stopping: asyncio.Event) -> Callable[[], None]:
    def look() -> None:
        if not os.read(descriptor, 1):
            asyncio.get_running_loop().remove_reader(descriptor)
            stopping.set()

    return look


async def _reload(name: str, part: Part, config: Config) -> None:
    """SIGHUP: reads the file again. A bad file changes nothing."""
    try:
        fresh = load(config.path, serving=True)
        _, settings = await asyncio.to_thread(FACTORIES[name], fresh)
        await part.reload(settings)
    except Exception as error:  # the old configuration stays in force
        log.error("reload_failed", error=str(error))
    else:
        log.info("reloaded")
