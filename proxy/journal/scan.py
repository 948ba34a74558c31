"""Reading one segment: the record at an LSN, or the next valid one after damage. By pread, with read-ahead.

Not by mmap: a bad sector, or a file cut by somebody else, would be a SIGBUS instead of an exception.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from proxy.journal.format import FRAME_BYTES, HEADER_BYTES, unpack_frame, unpack_header

_READ_AHEAD_BYTES = 256 * 1024
_SEARCH_BYTES = 1024 * 1024


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

    `limit` in the methods is an LSN at which to stop; the file's end stops them too.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.header = unpack_header(os.pread(self._fd, HEADER_BYTES, 0))
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
            window = os.pread(self._fd, min(_SEARCH_BYTES, limit - lsn), self._offset(lsn))
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
            self._buffer = os.pread(self._fd, wanted, self._offset(lsn))
            self._buffer_lsn, at = lsn, 0
        return self._buffer[at : at + length]
