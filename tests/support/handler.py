r"""A legacy handler that does as it is told: answers from a script, or fails at any stage in any way.

In tests: `async with serving(Handler(...)) as handler`, or `start`/`stop` by hand. As a process of its own:
`python -m tests.support.handler --port N --log FILE`, which prints the port and appends one JSON line per accepted
message (SHA-256 of the wire bytes, MAIL argument, RCPT arguments), fsynced before the 250. Deliberately independent of
the proxy's own SMTP code, so that what it saw is a second witness.

Stages: greeting, ehlo, helo, starttls, auth, xclient, mail, rcpt, data, dot, rset. A script maps stages to what is done
there each time, or to a list of turns, after which all is well again:

    b"550 5.1.1 no\r\n"     that reply            HANG    nothing, ever
    RESET                 a TCP reset           CLOSE   an orderly close
    Later(seconds)        the usual, late       Gate()  the usual, once `open` is set
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import os
import signal
import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import uvloop


@dataclass(frozen=True)
class Later:
    """Do the usual after so many seconds, or `reply` instead of it."""

    seconds: float
    reply: bytes = b""


@dataclass
class Gate:
    """Do the usual when `open` is set; `reached` counts who came here."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    reached: int = 0


class _Word:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


HANG, RESET, CLOSE = _Word("HANG"), _Word("RESET"), _Word("CLOSE")
Action = bytes | Later | Gate | _Word
EXTENSIONS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "SIZE 100000000", "ENHANCEDSTATUSCODES")


@dataclass(frozen=True)
class Message:
    """What came in one transaction that got as far as the dot."""

    mail_arg: bytes
    rcpt_args: tuple[bytes, ...]  # those accepted
    wire: bytes
    peer: tuple[str, int]
    helo: bytes
    xclient: bytes
    proxy: bytes
    secure: bool
    user: bytes


@dataclass
class Handler:
    """`messages` were accepted, `attempts` is all that came to the dot, `commands` every line, in order.

    `rcpts` maps a part of a RCPT argument to the reply that such recipients get. `slow` reads one byte a second
    after DATA, through a small window. `proxy` expects a PROXY v2 header first.
    """

    script: dict[str, Any] = field(default_factory=dict)  # of Action, or a list of them
    extensions: tuple[str, ...] = EXTENSIONS
    rcpts: dict[bytes, bytes] = field(default_factory=dict)
    slow: bool = False
    proxy: bool = False
    tls: ssl.SSLContext | None = None
    login: tuple[str, str] | None = None
    log: int = -1  # descriptor
    keep: bool = True
    messages: list[Message] = field(default_factory=list)
    attempts: list[Message] = field(default_factory=list)
    commands: list[bytes] = field(default_factory=list)
    connections: int = 0
    accepted: int = 0
    port: int = 0
    sessions: set[_Session] = field(default_factory=set)
    _server: asyncio.Server | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self, port: int = 0) -> None:
        """Listen; again on the same port after `stop`."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.slow:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", port or self.port))
        self.port = listener.getsockname()[1]
        listener.listen(2048)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Session(self), sock=listener, backlog=2048)

    async def stop(self) -> None:
        """Refuse connections from now on, and drop those that there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for session in list(self.sessions):
            session.reset()
        await asyncio.sleep(0)

    def action(self, stage: str) -> Action | None:
        """What the script says for this time; None: the usual."""
        action: Action | list[Action] | None = self.script.get(stage)
        if isinstance(action, list):
            return action.pop(0) if action else None
        return action

    def take(self, message: Message) -> None:
        """The message is accepted; on disk, where there is a log."""
        self.accepted += 1
        if self.keep:
            self.messages.append(message)
        if self.log >= 0:
            row = {
                "sha256": hashlib.sha256(message.wire).hexdigest(),
                "mail": message.mail_arg.decode("utf-8", "surrogateescape"),
                "rcpts": [arg.decode("utf-8", "surrogateescape") for arg in message.rcpt_args],
            }
            os.write(self.log, json.dumps(row).encode() + b"\n")
            os.fdatasync(self.log)


class _Session(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.loop = asyncio.get_running_loop()
        self.buffer = b""
        self.out: list[bytes] = []
        self.busy = False
        self.body: list[bytes] | None = None
        self.tail = b""
        self.mail: bytes | None = None
        self.accepted: list[bytes] = []
        self.helo = self.xclient = self.proxy = self.user = b""
        self.secure = False
        self.upgrade = False
        self.tasks: set[asyncio.Task[None]] = set()

    # -- the protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self.secure:
            return
        self.handler.sessions.add(self)
        self.handler.connections += 1
        if not self.handler.proxy:
            self.greet()

    def connection_lost(self, exc: Exception | None) -> None:
        self.handler.sessions.discard(self)
        self.busy = True
        for task in self.tasks:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self.pump()

    def reset(self) -> None:
        """A reset instead of an orderly close."""
        sock = self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    # -- the dialogue

    def greet(self) -> None:
        self.say("greeting", b"220 legacy.example ESMTP\r\n")
        self.flush()

    def pump(self) -> None:
        while not self.busy:
            if self.handler.proxy and not self.proxy:
                if len(self.buffer) < 16 or len(self.buffer) < 16 + int.from_bytes(self.buffer[14:16], "big"):
                    break
                size = 16 + int.from_bytes(self.buffer[14:16], "big")
                self.proxy, self.buffer = self.buffer[:size], self.buffer[size:]
                self.greet()
            elif self.body is not None:
                if not self.take_body():
                    break
            else:
                line, end, rest = self.buffer.partition(b"\r\n")
                if not end:
                    break
                self.buffer = rest
                self.handler.commands.append(line)
                self.obey(line)
        self.flush()

    def flush(self) -> None:
        if self.out and not self.transport.is_closing():
            self.transport.write(b"".join(self.out))
        self.out.clear()
        if self.upgrade and not self.busy:
            self.upgrade, self.busy = False, True
            self.background(self.start_tls())

    def say(self, stage: str, usual: bytes) -> bool:
        """Answer as the script has it; True if the usual was said (or will be: then nothing is done meanwhile)."""
        action = self.handler.action(stage)
        if action is None:
            self.out.append(usual)
            return True
        if isinstance(action, bytes):
            self.out.append(action)
            if action.startswith(b"421"):
                self.flush()
                self.transport.close()
            return action[:1] in b"23"
        self.flush()
        self.busy = True
        if action is CLOSE:
            self.transport.close()
        elif action is RESET:
            self.reset()
        elif isinstance(action, Later | Gate):
            self.background(self.later(action, usual))
            return not (isinstance(action, Later) and action.reply[:1] in {b"4", b"5"})
        return False

    async def later(self, action: Later | Gate, usual: bytes) -> None:
        if isinstance(action, Later):
            await asyncio.sleep(action.seconds)
            usual = action.reply or usual
        else:
            action.reached += 1
            await action.open.wait()
        self.out.append(usual)
        self.busy = False
        self.flush()
        self.pump()

    def background(self, coroutine: Coroutine[object, object, None]) -> None:
        task = self.loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def obey(self, line: bytes) -> None:
        verb, _, arg = line.partition(b" ")
        verb = verb.upper()
        if verb == b"MAIL":
            if self.mail is not None:
                self.out.append(b"503 5.5.1 nested MAIL\r\n")
            elif self.say("mail", b"250 2.1.0 ok\r\n"):
                self.mail, self.accepted = arg[5:], []
        elif verb == b"RCPT":
            self.rcpt(arg[3:])
        elif verb == b"DATA":
            if not self.accepted and "data" not in self.handler.script:
                self.out.append(b"554 5.5.1 no valid recipients\r\n")
            elif self.say("data", b"354 go on\r\n"):
                self.body, self.tail = [], b"\r\n"
                if self.handler.slow:
                    self.busy = True
                    self.flush()
                    self.transport.pause_reading()
                    self.background(self.read_slowly())
        elif verb in {b"EHLO", b"HELO"}:
            self.helo, self.mail = arg, None
            self.say(verb.decode().lower(), self.ehlo() if verb == b"EHLO" else b"250 legacy.example\r\n")
        elif verb == b"RSET":
            self.mail = None
            self.say("rset", b"250 2.0.0 ok\r\n")
        elif verb == b"QUIT":
            self.out.append(b"221 2.0.0 bye\r\n")
            self.flush()
            self.transport.close()
        else:
            self.extension(verb, arg)

    def extension(self, verb: bytes, arg: bytes) -> None:
        if verb == b"STARTTLS" and self.handler.tls is not None:
            self.upgrade = self.say("starttls", b"220 2.0.0 ready\r\n")
        elif verb == b"AUTH" and self.handler.login is not None:
            user, password = self.handler.login
            right = base64.b64encode(f"\0{user}\0{password}".encode())
            if arg == b"PLAIN " + right:
                self.user = user.encode()
                self.say("auth", b"235 2.7.0 welcome\r\n")
            else:
                self.say("auth", b"535 5.7.8 no\r\n")
        elif verb == b"XCLIENT":
            self.xclient, self.helo, self.mail = arg, b"", None
            self.say("xclient", b"220 legacy.example ESMTP\r\n")
        else:
            self.out.append(b"500 5.5.2 what?\r\n")

    def ehlo(self) -> bytes:
        lines = ["legacy.example", *self.handler.extensions]
        if self.handler.tls is not None and not self.secure:
            lines.append("STARTTLS")
        if self.handler.login is not None:
            lines.append("AUTH PLAIN")
        return "".join(f"250{'-' if i < len(lines) - 1 else ' '}{line}\r\n" for i, line in enumerate(lines)).encode()

    def rcpt(self, arg: bytes) -> None:
        if self.mail is None:
            self.out.append(b"503 5.5.1 MAIL first\r\n")
            return
        told = next((reply for part, reply in self.handler.rcpts.items() if part in arg), None)
        if told is not None:
            self.out.append(told)
        elif self.say("rcpt", b"250 2.1.5 ok\r\n"):
            self.accepted.append(arg)

    def take_body(self) -> bool:
        assert self.body is not None
        chunk, self.buffer = self.buffer, b""
        if not chunk:
            return False
        probe = self.tail + chunk
        end = probe.find(b"\r\n.\r\n")
        if end < 0:
            self.body.append(chunk)
            self.tail = probe[-4:]
            return False
        end += 5 - len(self.tail)
        self.body.append(chunk[:end])
        self.buffer = chunk[end:]
        wire = b"".join(self.body)[:-3]
        self.body = None
        message = Message(
            self.mail or b"",
            tuple(self.accepted),
            wire,
            self.transport.get_extra_info("peername")[:2],
            self.helo,
            self.xclient,
            self.proxy,
            self.secure,
            self.user,
        )
        recipients, self.mail, self.accepted = self.accepted, None, []
        if not recipients:
            self.out.append(b"554 5.5.1 no valid recipients\r\n")
            return True
        if self.handler.keep:
            self.handler.attempts.append(message)
        if self.say("dot", b"250 2.0.0 taken as %d\r\n" % (self.handler.accepted + 1)):
            self.handler.take(message)
        return True

    async def start_tls(self) -> None:
        assert self.handler.tls is not None
        self.secure = True
        with contextlib.suppress(OSError, ssl.SSLError):
            transport = await self.loop.start_tls(self.transport, self, self.handler.tls, server_side=True)
            assert transport is not None
            self.transport = transport
            self.busy = False
            self.pump()

    async def read_slowly(self) -> None:
        """Forget what comes, one byte a second."""
        sock = self.transport.get_extra_info("socket")
        while True:
            await asyncio.sleep(1)
            with contextlib.suppress(BlockingIOError):
                os.read(sock.fileno(), 1)


@asynccontextmanager
async def serving(handler: Handler | None = None) -> AsyncIterator[Handler]:
    """A started handler, stopped at the end."""
    handler = handler or Handler()
    await handler.start()
    try:
        yield handler
    finally:
        await handler.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.support.handler")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path, help="one JSON line a message, fsynced before the 250")
    parser.add_argument("--script", default="{}", help='JSON, e.g. {"dot": "451 4.2.0 later"}')
    args = parser.parse_args()
    script: dict[str, Action | list[Action]] = {
        stage: f"{reply}\r\n".encode() for stage, reply in json.loads(args.script).items()
    }
    log = os.open(args.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600) if args.log else -1

    async def run() -> None:
        handler = Handler(script=script, keep=False, log=log)
        await handler.start(args.port)
        sys.stdout.write(f"{handler.port}\n")
        sys.stdout.flush()
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        await ended.wait()
        await handler.stop()

    uvloop.run(run())


if __name__ == "__main__":
    main()
