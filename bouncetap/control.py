"""The control sockets: how commands, `status` and metrics reach a running part; the lock that makes it the only one.

Each part listens on `<state_dir>/run/<part>.sock` (0600, so only its own user and root). One request a connection:
a JSON line `{"command": NAME, "args": {...}}`, answered by a JSON line `{"ok": ...}` or `{"error": TEXT}`.
`status`, `metrics` and `reload` are answered here, anything else goes to the part's `command()`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import prometheus_client
import structlog

PARTS = ("proxy", "filer", "imap")
REQUEST_BYTES = 1 << 20
UNIX_PATH_BYTES = 100  # sun_path holds 107; longer ones go through a directory descriptor
log = structlog.get_logger("control")


class Controlled(Protocol):
    """What the socket needs of a part."""

    def status(self) -> dict[str, Any]:
        """What it does, JSON-able."""
        ...

    async def command(self, name: str, args: dict[str, Any]) -> dict[str, Any]:
        """Carries out an operator's command; any exception's text is the answer."""
        ...


class Unreachable(Exception):
    """No part answers on that socket."""


class AlreadyRuns(Exception):
    """The same part runs on this state directory already."""


def be_the_only_one(state_dir: Path, part: str) -> None:
    """Locks `<state_dir>/run/<part>.lock` for as long as this process lives. Raises AlreadyRuns, OSError.

    A second one would take over the first one's control socket, and nobody could speak to the first any more.
    """
    path = socket_path(state_dir, part).with_suffix(".lock")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise AlreadyRuns(f"another {part} runs on {state_dir}") from None


def socket_path(state_dir: Path, part: str) -> Path:
    """Where a part's control socket is."""
    return state_dir / "run" / f"{part}.sock"


@contextlib.contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """A name for `path` that fits into sockaddr_un, whatever its length."""
    if len(os.fsencode(path)) <= UNIX_PATH_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


class ControlServer:
    """Answers on one part's control socket."""

    def __init__(self, part: Controlled, path: Path, reload: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self._part = part
        self._path = path
        self._reload = reload
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listens; takes over the socket file of a part that died."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        with _reachable(self._path) as name:
            self._server = await asyncio.start_unix_server(self._serve, name, limit=REQUEST_BYTES)
            os.chmod(name, 0o600)  # noqa: PTH101  # one quick call at start-up

    async def stop(self) -> None:
        """Stops listening and removes the socket file."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = {"ok": await self._answer(json.loads(await reader.readline()))}
        except Exception as error:  # whatever went wrong is the answer; the part goes on
            log.warning("control_command_failed", error=str(error) or type(error).__name__)
            answer = {"error": str(error) or type(error).__name__}
        with contextlib.suppress(OSError):
            writer.write(json.dumps(answer, default=str).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def _answer(self, request: dict[str, Any]) -> Any:
        name, args = request["command"], request.get("args") or {}
        if name == "status":
            return {"pid": os.getpid(), **self._part.status()}
        if name == "reload":
            return await self._reload()
        if name == "metrics":
            return prometheus_client.generate_latest().decode()
        return await self._part.command(name, args)


async def ask(state_dir: Path, part: str, command: str, *, timeout_s: float = 5.0, **args: Any) -> Any:
    """A running part's answer.

    Raises Unreachable if it does not run or does not answer in time, ValueError if it refuses.
    """
    path = socket_path(state_dir, part)
    try:
        async with asyncio.timeout(timeout_s):
            with _reachable(path) as name:
                reader, writer = await asyncio.open_unix_connection(name, limit=1 << 26)
            writer.write(json.dumps({"command": command, "args": args}).encode() + b"\n")
            line = await reader.readline()
            writer.close()
        answer = json.loads(line)
    except (OSError, TimeoutError, json.JSONDecodeError) as error:
        raise Unreachable(f"{part} does not answer on {path} ({type(error).__name__})") from error
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer["ok"]
