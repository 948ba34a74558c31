"""From a stream of bytes to whole commands: lines and the literals that continue them, within bounds, without I/O.

The caller feeds what the socket gives and asks `next()` for what is complete. A command that has grown too large, or
an APPEND, which this server never accepts, is dropped piece by piece and never held in memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LINE_LIMIT_BYTES = 65_536
LITERAL_LIMIT_BYTES = 65_536
COMMAND_LIMIT_BYTES = 1_048_576
STRANGER_LIMIT_BYTES = 16_384  # of a command before login: there are many strangers, and they say little
_SKIP_LIMIT_BYTES = 1_000_000_000  # a non-synchronizing literal that we read only to drop it

_LITERAL = re.compile(rb"\{(\d{1,19})(\+?)\}\r?\n\Z")
_APPEND = re.compile(rb"[^ ]+ +append[ \r\n]", re.IGNORECASE)
_TAG = re.compile(rb"[!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]{1,128}(?= )")


@dataclass(frozen=True, slots=True)
class Complete:
    """A whole command with its literals in place (`{n}` CRLF bytes), without its last line end."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Continue:
    """The client waits for a continuation request before it sends a literal (RFC 3501 section 7.5)."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A command that was dropped: `append` tells why. `tag` is `*` where none could be read.

    `fatal`: the stream cannot be followed any more.
    """

    tag: bytes
    append: bool = False
    fatal: bool = False


Event = Complete | Continue | Refused


class CommandStream:
    """Splits one client's bytes into commands. How the bytes were cut into pieces makes no difference.

    A command may have `limit_bytes`, its literals included.
    """

    def __init__(self, limit_bytes: int = COMMAND_LIMIT_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._buffer = bytearray()
        self._searched = 0  # no line end before this offset of the buffer
        self._command = bytearray()  # lines and literals so far
        self._need = 0  # bytes of a literal still to come
        self._skip = 0  # the same, of a literal to be dropped
        self._dropping: Refused | None = None  # the answer at the end of a command that is being dropped
        self._long_line = False

    def feed(self, data: bytes) -> None:
        """Take what the socket gave; at most a few hundred KB should be fed between calls of `next`."""
        self._buffer += data

    @property
    def pending(self) -> bool:
        """Whether bytes wait that no event has told of yet."""
        return bool(self._buffer or self._command)

    def next(self) -> Event | None:
        """The next event, or None until more is fed."""
        while True:
            if self._skip:
                if not self._buffer:
                    return None
                dropped = min(self._skip, len(self._buffer))
                del self._buffer[:dropped]
                self._skip -= dropped
            elif self._need:
                if len(self._buffer) < self._need:
                    return None
                self._command += self._take(self._need)
                self._need = 0
            else:
                line = self._read_line()
                if line is None:
                    return None
                event = self._line(line)
                if event is not None:
                    return event

    def line(self) -> bytes | None:
        """A line that is no command, such as DONE, with its end, or None. An overlong one comes empty."""
        line = self._read_line()
        if line is not None:
            self._dropping = None
        return line

    def _read_line(self) -> bytes | None:
        """The next line with its end, or None. One over the limit comes cut, and ends the command it stands in."""
        while True:
            found = self._buffer.find(b"\n", self._searched)
            if found < 0:
                self._searched = len(self._buffer)
                if self._searched > LINE_LIMIT_BYTES:
                    del self._buffer[LINE_LIMIT_BYTES:]
                    self._searched = LINE_LIMIT_BYTES
                    self._long_line = True
                return None
            line = self._take(found + 1)
            if self._long_line or len(line) > LINE_LIMIT_BYTES:
                self._long_line = False
                self._drop(line[: LINE_LIMIT_BYTES - 1])
                return b"\n"
            return line

    def _take(self, count: int) -> bytes:
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._searched = 0
        return data

    def _drop(self, start: bytes, *, append: bool = False) -> None:
        """Give up the command; its beginning names the tag."""
        if self._dropping is None:
            tag = _TAG.match(bytes(self._command[:200]) or start[:200])
            self._dropping = Refused(tag[0] if tag else b"*", append=append)
        self._command.clear()

    def _line(self, line: bytes) -> Event | None:
        """Take one line of a command: it ends the command or announces a literal."""
        if not self._command and self._dropping is None and _APPEND.match(line):
            self._drop(line, append=True)
        if self._dropping is None:
            self._command += line
            if len(self._command) > self.limit_bytes:
                self._drop(b"")
        literal = _LITERAL.search(line)
        if literal is None:
            return self._finish()
        size, synchronizing = int(literal[1]), not literal[2]
        if self._dropping is None and (size > LITERAL_LIMIT_BYTES or len(self._command) + size > self.limit_bytes):
            self._drop(b"")
        if self._dropping is not None:
            if synchronizing:  # a tagged reply instead of the continuation: the literal is never sent
                return self._finish()
            if size > _SKIP_LIMIT_BYTES:
                return Refused(self._dropping.tag, append=self._dropping.append, fatal=True)
            self._skip = size
            return None
        self._need = size
        return Continue() if synchronizing else None

    def _finish(self) -> Event:
        refused, self._dropping = self._dropping, None
        if refused is not None:
            self._command.clear()
            return refused
        data = bytes(self._command)
        self._command.clear()
        return Complete(data[:-2] if data.endswith(b"\r\n") else data[:-1])
