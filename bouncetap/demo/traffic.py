"""Sample traffic: the project's fixtures, sent byte for byte by a small SMTP client of its own."""

from __future__ import annotations

import asyncio
import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

FIXTURES = Path(__file__).parents[2] / "fixtures"
DOMAIN = "bounces.example.com"
DEFAULT_RECIPIENT = f"<return@{DOMAIN}>"


@dataclass(frozen=True, slots=True)
class Sample:
    """One fixture: its name, bytes, envelope arguments and what is expected of it."""

    name: str
    raw: bytes
    mail_arg: str
    rcpt_args: tuple[str, ...]
    expect: dict[str, Any]

    @property
    def wire(self) -> bytes:
        """The wire form (RFC 5321 section 4.5.2): dots stuffed, a final CRLF added where there is none."""
        raw = self.raw if not self.raw or self.raw.endswith(b"\r\n") else self.raw + b"\r\n"
        stuffed = raw.replace(b"\r\n.", b"\r\n..")
        return b"." + stuffed if stuffed.startswith(b".") else stuffed

    @property
    def sha256(self) -> str:
        """Of the message as the quarantine gives it back."""
        raw = self.raw if not self.raw or self.raw.endswith(b"\r\n") else self.raw + b"\r\n"
        return hashlib.sha256(raw).hexdigest()


def samples(directory: Path = FIXTURES, *, refused: bool | None = False) -> list[Sample]:
    """Every fixture, sorted by name: those that the front line takes, those that it refuses, or all (None).

    Raises FileNotFoundError where there are none.
    """
    found = []
    for file in sorted(directory.rglob("*.eml")):
        facts = tomllib.loads(file.with_suffix(".toml").read_text(encoding="utf-8"))
        if refused not in {None, facts.get("expect_refused", False)}:
            continue
        envelope = facts.get("envelope", {})
        found.append(
            Sample(
                name=file.relative_to(directory).with_suffix("").as_posix(),
                raw=file.read_bytes(),
                mail_arg=envelope.get("mail_from", "<>"),
                rcpt_args=tuple(envelope.get("rcpt_to", [DEFAULT_RECIPIENT])),
                expect=facts.get("expect", {}),
            )
        )
    if not found:
        raise FileNotFoundError(f"no messages in {directory}: the demo's traffic comes from the project's fixtures/")
    return found


class Client:
    """A plain SMTP client that sends exactly the bytes it is given."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(*self._address)
        await self._reply()
        await self._say(b"EHLO demo.example.net\r\n")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._say(b"QUIT\r\n")
        self._writer.close()

    async def send(self, sample: Sample) -> str:
        """Sends one message; the last reply's text, e.g. '250 2.0.0 fine'."""
        reply = await self._say(b"MAIL FROM:" + sample.mail_arg.encode() + b"\r\n")
        for recipient in sample.rcpt_args:
            reply = await self._say(b"RCPT TO:" + recipient.encode() + b"\r\n")
        if (reply := await self._say(b"DATA\r\n")).startswith("354"):
            return await self._say(sample.wire + b".\r\n")
        await self._say(b"RSET\r\n")
        return reply

    async def _say(self, data: bytes) -> str:
        self._writer.write(data)
        await self._writer.drain()
        return await self._reply()

    async def _reply(self) -> str:
        lines = []
        while True:
            line = (await self._reader.readuntil(b"\r\n")).decode("utf-8", "replace").rstrip()
            lines.append(line)
            if line[3:4] != "-":
                return lines[-1]
