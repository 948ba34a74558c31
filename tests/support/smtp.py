"""A plain SMTP sender for end-to-end tests: exactly the bytes it is given, many sessions, tolerant of a dying tap."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


def crlf(raw: bytes) -> bytes:
    """`raw` with CRLF line ends, and a final CRLF where there is none: what a mail system puts on the wire."""
    text = raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return text if not text or text.endswith(b"\r\n") else text + b"\r\n"


@dataclass(frozen=True)
class Mail:
    """One message to send: `raw` before dot-stuffing, empty or ending in CRLF."""

    raw: bytes
    mail_arg: bytes = b"<>"
    rcpt_args: tuple[bytes, ...] = (b"<return@bounces.example.com>",)

    @property
    def wire(self) -> bytes:
        stuffed = self.raw.replace(b"\r\n.", b"\r\n..")
        return b"." + stuffed if stuffed.startswith(b".") else stuffed

    @property
    def wire_sha256(self) -> str:
        return hashlib.sha256(self.wire).hexdigest()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()


class Session:
    """One SMTP connection. Raises OSError or EOFError when the other side goes away."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def open(self) -> Session:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await self.reply()
            await self.say(b"EHLO sender.example.net\r\n")
        except (OSError, EOFError):
            self.close()
            raise
        return self

    async def send(self, mail: Mail) -> bytes:
        """The last reply; MAIL, RCPTs and DATA go out as one pipelined batch."""
        commands = [b"MAIL FROM:" + mail.mail_arg, *(b"RCPT TO:" + r for r in mail.rcpt_args), b"DATA"]
        self._writer.write(b"".join(command + b"\r\n" for command in commands))
        replies = [await self.reply() for _ in commands]
        if not replies[-1].startswith(b"354"):
            await self.say(b"RSET\r\n")
            return next((r for r in replies if not r.startswith(b"2")), replies[-1])
        return await self.say(mail.wire + b".\r\n")

    async def say(self, data: bytes) -> bytes:
        await self.write(data)
        return await self.reply()

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def reply(self) -> bytes:
        while True:
            line = await self._reader.readline()
            if not line.endswith(b"\n"):
                raise EOFError("the server closed the connection")
            if line[3:4] != b"-":
                return line

    def close(self) -> None:
        self._writer.transport.abort()


async def send_all(port: int, mails: Iterable[Mail]) -> list[bytes]:
    """Sends all on one connection; the last reply to each."""
    session = await Session(port).open()
    replies = [await session.send(mail) for mail in mails]
    await session.say(b"QUIT\r\n")
    session.close()
    return replies
