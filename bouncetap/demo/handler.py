"""The stand-in for a legacy handler: takes everything, remembers a digest of each message's wire bytes.

Deliberately small and independent of the proxy's own SMTP code, so that what it saw is a second witness.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib

EHLO = b"250-legacy.demo\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250 SIZE 100000000\r\n"


class StandInHandler:
    """Listens on `host:port` (0: any free one). `received` holds (SHA-256 of the wire bytes, envelope) per message."""

    def __init__(self) -> None:
        self.received: list[tuple[str, tuple[bytes, ...]]] = []
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listens; the port it got."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=1 << 27)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stops listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 legacy.demo the legacy handler's stand-in\r\n")
        envelope: list[bytes] = []
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while line := await reader.readuntil(b"\r\n"):
                verb = line[:4].upper().strip()
                if verb == b"EHLO":
                    writer.write(EHLO)
                elif verb in {b"MAIL", b"RCPT"}:
                    envelope = [*envelope, line.strip()] if verb == b"RCPT" else [line.strip()]
                    writer.write(b"250 2.1.0 fine\r\n")
                elif verb == b"DATA":
                    writer.write(b"354 go on\r\n")
                    wire = await self._body(reader)
                    self.received.append((hashlib.sha256(wire).hexdigest(), tuple(envelope)))
                    writer.write(b"250 2.0.0 taken by the legacy handler as no. %d\r\n" % len(self.received))
                elif verb == b"QUIT":
                    writer.write(b"221 2.0.0 bye\r\n")
                    break
                else:
                    writer.write(b"250 2.0.0 fine\r\n")
                await writer.drain()
        writer.close()

    @staticmethod
    async def _body(reader: asyncio.StreamReader) -> bytes:
        """The wire bytes up to the dot line, which is left out."""
        chunks = [await reader.readuntil(b"\r\n")]
        while chunks[-1] != b".\r\n":
            chunks.append(await reader.readuntil(b"\r\n"))
        return b"".join(chunks[:-1])
