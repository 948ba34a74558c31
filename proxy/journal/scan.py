"""Reading one segment: the record at an LSN, or the next valid one after damage. By pread, with read-ahead.

Not by mmap: a bad sector, or a file cut by somebody else, would be a SIGBUS instead of an exception. A bad sector is an
OSError, or for a forgiving reader damage like any other: it costs the records that lie on it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from proxy.journal.errors import DamageError
from proxy.journal.format import FRAME_BYTES, HEADER_BYTES, unpack_frame, unpack_header

_READ_AHEAD_BYTES = 256 * 1024
_SEARCH_BYTES = 1024 * 1024
_PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Frame:
    """A valid record as bytes: `next_lsn` is where the one after it begins."""

    lsn: int
    next_lsn: int
    kind: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes before a valid record that are none."""

    lsn: int
    next_lsn: int


class Segment:
    """An open segment file. Raises OSError, UnknownVersionError, DamageError (no header) on opening.

    `limit` in the methods is an LSN at which to stop; the file's end stops them too. `unreadable_to` is the LSN after
    the last page that the disk could not read and that a `forgiving` reader took for zeros, 0 if there was none.
    """

    def __init__(self, path: Path, *, forgiving: bool = False) -> None:
        self.path = path
        self.unreadable_to = 0
        self._forgiving = forgiving
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.header = unpack_header(self._first_bytes())
        except BaseException:
            os.close(self._fd)
            raise
        self._buffer = b""
        self._buffer_lsn = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def end(self) -> int:
        """The LSN at the end of the file, preallocated zeros included."""
        return self.header.base + max(0, os.fstat(self._fd).st_size - HEADER_BYTES)

    def frame(self, lsn: int, limit: int) -> Frame | None:
        """The valid record at `lsn` that ends at or before `limit`, or None."""
        head = unpack_frame(self.header, self._bytes(lsn, FRAME_BYTES, limit), lsn)
        if head is None or head.next_lsn > limit or head.length > self.end - lsn:
            return None
        payload = self._bytes(lsn + FRAME_BYTES, head.length, limit)
        return Frame(lsn, head.next_lsn, head.kind, payload) if head.fits(payload) else None

    def find(self, lsn: int, limit: int) -> int | None:
        """The LSN of the first valid record at or after `lsn`, or None if there is none before `limit`."""
        limit = min(limit, self.end)
        while lsn < limit:
            window = self._read(min(_SEARCH_BYTES, limit - lsn), lsn)
            at = window.find(self.header.mark)
            while at >= 0:
                if self.frame(lsn + at, limit) is not None:
                    return lsn + at
                at = window.find(self.header.mark, at + 1)
            if len(window) < _SEARCH_BYTES:
                return None
            lsn += len(window) - len(self.header.mark) + 1
        return None

    def walk(self, limit: int) -> Iterator[Frame | Gap]:
        """All valid records that end at or before `limit`, and the gaps before them; no gap after the last."""
        lsn = self.header.base
        while lsn < limit:
            frame = self.frame(lsn, limit)
            if frame is None:
                resume = self.find(lsn + 1, limit)
                if resume is None:
                    return
                yield Gap(lsn, resume)
                lsn = resume
            else:
                yield frame
                lsn = frame.next_lsn

    def _offset(self, lsn: int) -> int:
        return lsn - self.header.base + HEADER_BYTES

    def _bytes(self, lsn: int, length: int, limit: int) -> bytes:
        at = lsn - self._buffer_lsn
        if at < 0 or at + length > len(self._buffer):
            # Never read ahead past the limit: what is there now may be overwritten before it counts.
            wanted = max(length, min(_READ_AHEAD_BYTES, limit - lsn))
            self._buffer = self._read(wanted, lsn)
            self._buffer_lsn, at = lsn, 0
        return self._buffer[at : at + length]

    def _first_bytes(self) -> bytes:
        try:
            return os.pread(self._fd, HEADER_BYTES, 0)
        except OSError as error:
            if error.errno == errno.EIO and self._forgiving:
                raise DamageError("the disk cannot read its header") from error
            raise

    def _read(self, length: int, lsn: int) -> bytes:
        """All of it, up to the file's end: before a page that cannot be read, pread merely stops short."""
        pieces = []
        while length > 0:
            try:
                piece = os.pread(self._fd, length, self._offset(lsn))
            except OSError as error:
                if error.errno != errno.EIO or not self._forgiving:
                    raise
                piece = bytes(min(length, _PAGE_BYTES - self._offset(lsn) % _PAGE_BYTES))
                self.unreadable_to = max(self.unreadable_to, lsn + len(piece))
            if not piece:
                break
            pieces.append(piece)
            lsn, length = lsn + len(piece), length - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
