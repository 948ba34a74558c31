"""Bytes that have arrived on a connection and that nobody has used yet.

The protocol feeds it, the session's coroutine takes lines or everything there is. Reading from the socket is paused
above a high-water mark, so a sender that talks while nobody listens fills the kernel's buffers and not our memory.
"""

from __future__ import annotations

import asyncio

HIGH_WATER_BYTES = 256 * 1024


class BareLineFeedError(Exception):
    """A command line ended in LF without CR (RFC 5321 section 2.3.8 forbids to take that for a line end)."""


class Inbox:
    """The unused input of one connection."""

    __slots__ = ("_buffer", "_loop", "_paused", "_transport", "_waiter", "eof")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buffer = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self._transport: asyncio.ReadTransport | None = None
        self._paused = False
        self.eof = False

    def __len__(self) -> int:
        return len(self._buffer)

    def attach(self, transport: asyncio.ReadTransport) -> None:
        """Control the flow of `transport` from now on (again after STARTTLS)."""
        self._transport = transport
        self._paused = False

    def feed(self, data: bytes) -> None:
        """More bytes have arrived."""
        self._buffer += data
        if len(self._buffer) > HIGH_WATER_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def feed_eof(self) -> None:
        """No more will arrive."""
        self.eof = True
        self._wake()

    def take_line(self) -> bytes | None:
        """The next line without its CRLF, or None if none is complete; `BareLineFeedError` if it ends in LF."""
        end = self._buffer.find(b"\n")
        if end < 0:
            return None
        if end == 0 or self._buffer[end - 1] != 0x0D:
            raise BareLineFeedError
        line = bytes(self._buffer[: end - 1])
        del self._buffer[: end + 1]
        return line

    def has_line(self) -> bool:
        """True if another line is waiting, so that the answers to both can go out together."""
        return b"\n" in self._buffer

    def take_all(self) -> bytearray:
        """All there is, possibly nothing."""
        taken, self._buffer = self._buffer, bytearray()
        return taken

    def peek(self, size_bytes: int) -> bytes:
        """Up to `size_bytes` from the front, left where they are."""
        return bytes(self._buffer[:size_bytes])

    def skip(self, size_bytes: int) -> None:
        """Drop `size_bytes` from the front."""
        del self._buffer[:size_bytes]

    def put_back(self, rest: bytes) -> None:
        """Return what was taken too much to the front."""
        self._buffer[:0] = rest

    async def wait(self) -> bool:
        """Wait for more than there is now; False if no more will come."""
        if self.eof:
            return False
        if self._paused and len(self._buffer) <= HIGH_WATER_BYTES and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        return bool(self._buffer) or not self.eof

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
