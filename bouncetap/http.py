"""`[http]`: metrics and health for machines, served by a thread of its own.

    /livez     200 while this process lives
    /readyz    200 while the proxy takes mail (nothing behind the journal is asked); else 503 with the reason
    /status    what `bouncetap status --json` prints, less the addresses in handlers' replies
    /metrics   every part's metrics, in Prometheus' text format, and `bouncetap_up{part=...}`

Bounded: so many connections at once, each for so long at most; when there are too many, the oldest that asks nothing
goes, so that nobody can keep the health checks out by silence.
The parts are asked over their control sockets, each for at most ASK_TIMEOUT_S: a frozen part is shown as down.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from bouncetap.config import Config
from bouncetap.config.values import split_host_port
from bouncetap.control import PARTS, Unreachable, ask
from bouncetap.logs import redact_value

ASK_TIMEOUT_S = 1.0
CONNECTIONS = 50
CONNECTION_S = 10.0
Answer = tuple[int, str, str]  # status code, content type, body
TEXT = "text/plain; version=0.0.4; charset=utf-8"
log = structlog.get_logger("shell")


def start_http(config: Config) -> HttpServer | None:
    """Serves `[http]` where it is configured. An address that is taken is logged: it must not keep the mail waiting."""
    if not config["http.listen"]:
        return None
    server = HttpServer(config["http.listen"], config.state_dir)
    try:
        server.start()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        log.error("http_not_started", listen=config["http.listen"], error=reason)
        return None
    return server


class _Impatient(H11Protocol):
    """Ends each connection after CONNECTION_S, but for an answer that is being written; its peer may open another."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.since_s = self.loop.time()
        self.loop.call_later(CONNECTION_S, self._end)
        if len(self.connections) > CONNECTIONS:
            silent = [other for other in self.connections if isinstance(other, _Impatient) and not other.answering]
            oldest = min(silent, key=lambda other: other.since_s)
            self.connections.discard(oldest)  # the loop tells it later
            oldest.transport.abort()

    @property
    def answering(self) -> bool:
        """Whether an answer is being made or written."""
        return self.cycle is not None and not self.cycle.response_complete

    def _end(self) -> None:
        if self.answering:
            self.loop.call_later(CONNECTION_S, self._end)
        else:
            self.transport.close()


class HttpServer:
    """Listens on `[http] listen` in a daemon thread. Raises OSError from `start` if the address is taken."""

    def __init__(self, listen: str, state_dir: Path) -> None:
        self.address = split_host_port(listen)
        self._state_dir = state_dir
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Binds here, serves in the thread."""
        family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        listener = socket.create_server(self.address, family=family)
        self.address = listener.getsockname()[:2]
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                interface="asgi3",
                proxy_headers=False,
                timeout_graceful_shutdown=1,
                limit_concurrency=2 * CONNECTIONS,
                loop="asyncio",
                http=_Impatient,
                ws="none",
            )
        )
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="http", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(3)

    async def _app(self, scope: dict[str, Any], _receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        pages = {"/livez": self._livez, "/readyz": self._readyz, "/status": self._status, "/metrics": self._metrics}
        page = pages.get(scope.get("path", ""))
        code, kind, body = await page() if page else (404, TEXT, f"there is {', '.join(pages)}\n")
        headers = [(b"content-type", kind.encode()), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": code, "headers": headers})
        await send({"type": "http.response.body", "body": body.encode()})

    async def _livez(self) -> Answer:
        return 200, TEXT, "alive\n"

    async def _readyz(self) -> Answer:
        try:
            status = await ask(self._state_dir, "proxy", "status", timeout_s=ASK_TIMEOUT_S)
        except (Unreachable, ValueError) as error:
            return 503, TEXT, f"not ready: {error}\n"
        if status.get("state") == "running":
            return 200, TEXT, "ready\n"
        return 503, TEXT, f"not ready: the proxy is {status.get('state')}\n"

    async def _status(self) -> Answer:
        # Value by value: in the finished text an address would take the quotation marks around it along.
        shown = redact_value(await gather_status(self._state_dir))
        return 200, "application/json", json.dumps(shown, default=str, ensure_ascii=False) + "\n"

    async def _metrics(self) -> Answer:
        answers = await asyncio.gather(
            *(ask(self._state_dir, part, "metrics", timeout_s=ASK_TIMEOUT_S) for part in PARTS), return_exceptions=True
        )
        lines = ["# HELP bouncetap_up Whether a part answers on its control socket.", "# TYPE bouncetap_up gauge"]
        for part, answer in zip(PARTS, answers, strict=True):
            lines.append(f'bouncetap_up{{part="{part}"}} {int(isinstance(answer, str))}')
        return 200, TEXT, "\n".join(lines) + "\n" + "".join(a for a in answers if isinstance(a, str))


async def gather_status(state_dir: Path) -> dict[str, Any]:
    """Every part's status; `{"running": false, "error": ...}` for one that does not answer."""

    async def one(part: str) -> dict[str, Any]:
        try:
            return {"running": True, **await ask(state_dir, part, "status", timeout_s=ASK_TIMEOUT_S)}
        except (Unreachable, ValueError) as error:
            return {"running": False, "error": str(error)}

    return dict(zip(PARTS, await asyncio.gather(*map(one, PARTS)), strict=True))
