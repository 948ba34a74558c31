"""One stream's write end: append a batch by one pwritev and one fdatasync, roll segments, survive a failing disk.

After any failed write or fsync the descriptor is given up for good: what the kernel holds for it may be dropped, and
a second fsync would lie (the pages are marked clean). The next batch goes to a new segment whose base is the last
durable LSN, which voids whatever the failed one holds from there on.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from proxy.journal.files import Files
from proxy.journal.format import FRAME_BYTES, HEADER_BYTES, SegmentHeader, new_salt, pack_frame, pack_header
from proxy.journal.stream import (
    DURABLE,
    SegmentName,
    list_segments,
    pack_cursor,
    segment_path,
)

_IOV_MAX = 1024


class Appendable(Protocol):
    """A record to be written: `commit` fills in where it went."""

    kind: int
    parts: Sequence[bytes]
    size_bytes: int
    lsn: int
    seq: int


class StreamLog:
    """Appends to a stream whose lock (`lock_fd`) the caller holds. One thread at a time.

    `segments` lists the stream's segments in order; `durable` is the LSN up to which all is fsynced. Both begin with
    what recovery found. A new segment is never shorter than the batch that opens it, and takes at most half of what the
    disk has left: with less than `segment_bytes` free there still is room for many messages. `lossy`: acknowledged
    records in it cannot be read; nothing of it is ever deleted.
    """

    def __init__(
        self,
        files: Files,
        path: Path,
        lock_fd: int,
        *,
        segment_bytes: int,
        durable: int = 0,
        lossy: bool = False,
    ) -> None:
        self.files = files
        self.path = path
        self.name = path.name
        self.segments: list[SegmentName] = list_segments(path)
        self.durable = durable
        self.lossy = lossy
        self.syncing_since = 0.0  # monotonic, 0 if no fsync is under way
        self.last_sync_s = 0.0
        self._lock_fd = lock_fd
        self._segment_bytes = segment_bytes
        self._next_seq = self.segments[-1].seq + 1 if self.segments else 0
        self._header: SegmentHeader | None = None
        self._fd = -1
        self._capacity = 0
        self._durable_fd = -1

    def prepare(self) -> None:
        """Publish `durable` and open a first segment before anybody waits for it. Raises OSError."""
        self._publish()
        self._open_segment(0)

    def publish(self) -> None:
        """Tell readers what recovery found durable. Raises OSError."""
        self._publish()

    def commit(self, batch: Sequence[Appendable]) -> None:
        """Write `batch` and fsync it; each item's `lsn` and `seq` are set. If it raises, nothing of it counts."""
        size = sum(item.size_bytes for item in batch) + FRAME_BYTES * len(batch)
        if self._header is None or self._offset(self.durable) + size > self._capacity:
            self._open_segment(size)
        header = self._header
        assert header is not None
        lsn = self.durable
        buffers: list[bytes | memoryview] = []
        for item in batch:
            item.lsn, item.seq = lsn, header.seq
            buffers.append(pack_frame(header, item.kind, lsn, item.parts))
            buffers.extend(part for part in item.parts if part)
            lsn += FRAME_BYTES + item.size_bytes
        try:
            self.files.point("CP1")
            self._write_all(buffers, self._offset(self.durable))
            self.files.point("CP2")
            self._sync()
        except BaseException:
            self._abandon()
            raise
        self.durable = lsn
        self.files.point("CP3")
        with contextlib.suppress(OSError):  # durable all the same; the next commit publishes it
            self._publish()
        self.files.point("CP4")

    def drop_segment(self, segment: SegmentName) -> None:
        """Delete the oldest segment. Raises OSError."""
        assert segment == self.segments[0]
        with contextlib.suppress(FileNotFoundError):
            self.files.unlink(segment.path)
        # One by one, oldest first: a later segment may hold the marks that settle an earlier one's entries.
        self.files.sync_dir(self.path)
        self.segments.pop(0)
        self.files.point("CP10")

    def close(self) -> None:
        """Give the unused tail of the segment back, and the lock with it. Idempotent."""
        self._retire()
        for fd in (self._durable_fd, self._lock_fd):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    self.files.close(fd)
        self._durable_fd = self._lock_fd = -1

    def _offset(self, lsn: int) -> int:
        assert self._header is not None
        return lsn - self._header.base + HEADER_BYTES

    def _open_segment(self, batch_bytes: int) -> None:
        self._retire()
        seq = self._next_seq
        self._next_seq += 1  # never used twice, whatever comes of it
        header = SegmentHeader(seq, self.durable, time.time_ns(), new_salt())
        name = SegmentName(seq, header.base, segment_path(self.path, seq, header.base))
        wanted = min(self._segment_bytes, self.files.free_bytes(self.path) // 2)
        capacity = max(wanted, HEADER_BYTES + batch_bytes)
        fd = self.files.open(name.path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        self.segments.append(name)
        try:
            self.files.point("CP5")
            self.files.fallocate(fd, capacity)
            self._write_all([pack_header(header)], 0, fd)
            self.files.fdatasync(fd)
            self.files.point("CP6")
            self.files.sync_dir(self.path)
            self.files.point("CP7")
        except OSError:
            self._discard(fd, name)
            raise
        self._header, self._fd, self._capacity = header, fd, capacity

    def _discard(self, fd: int, name: SegmentName) -> None:
        # It holds nothing that counts: remove it, so that a failing disk is not filled by our attempts.
        with contextlib.suppress(OSError):
            self.files.close(fd)
        with contextlib.suppress(OSError):
            self.files.unlink(name.path)
            self.segments.remove(name)

    def _retire(self) -> None:
        if self._header is None:
            return
        fd, used = self._fd, self._offset(self.durable)
        self._header, self._fd = None, -1
        with contextlib.suppress(OSError):
            self.files.ftruncate(fd, used)
        with contextlib.suppress(OSError):
            self.files.close(fd)

    def _abandon(self) -> None:
        fd, header = self._fd, self._header
        assert header is not None
        self._header, self._fd = None, -1
        if header.base == self.durable:
            self._discard(fd, self.segments[-1])
            return
        with contextlib.suppress(OSError):
            self.files.close(fd)

    def _write_all(self, buffers: list[bytes | memoryview], offset: int, fd: int | None = None) -> None:
        fd = self._fd if fd is None else fd
        first = 0
        while first < len(buffers):
            written = self.files.pwritev(fd, buffers[first : first + _IOV_MAX], offset)
            if written <= 0:
                raise OSError(5, "nothing written")
            offset += written
            while first < len(buffers) and written >= len(buffers[first]):
                written -= len(buffers[first])
                first += 1
            if written:
                buffers[first] = memoryview(buffers[first])[written:]

    def _sync(self) -> None:
        self.syncing_since = time.monotonic()
        try:
            self.files.fdatasync(self._fd)
        finally:
            self.last_sync_s = time.monotonic() - self.syncing_since
            self.syncing_since = 0.0

    def _publish(self) -> None:
        if self._durable_fd < 0:
            self._durable_fd = self.files.open(self.path / DURABLE, os.O_RDWR | os.O_CREAT)
        self.files.pwrite(self._durable_fd, pack_cursor(self.durable), 0)
