"""A stream as a directory: its name, its lock, its segments, and the two published cursors.

A stream appears by a rename, already locked, and goes by a rename to a dotted name: whoever lists the journal sees
whole streams only. Dotted names that nobody locks are leftovers of a crash and are swept.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import struct
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

from proxy.journal.errors import JournalError
from proxy.journal.files import Files
from proxy.journal.ids import new_id

LOCK = "lock"
DURABLE = "durable"
FILED = "filed"

_SEGMENT = re.compile(r"(\d{10})-(\d{20})\.seg")
_CURSOR = struct.Struct("<QI")
_SWEEP_AFTER_S = 60.0  # another worker may be making a stream right now
_LOCK_TRIES = 5  # `is_live` holds the lock for an instant


@dataclass(frozen=True, slots=True)
class SegmentName:
    """A segment by its file name."""

    seq: int
    base: int
    path: Path


def segment_path(stream: Path, seq: int, base: int) -> Path:
    """Where segment `seq`, beginning at LSN `base`, is."""
    return stream / f"{seq:010d}-{base:020d}.seg"


def list_segments(stream: Path) -> list[SegmentName]:
    """A stream's segments in order; empty if the stream is gone."""
    try:
        names = [path.name for path in stream.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    matches = ((_SEGMENT.fullmatch(name), name) for name in names)
    return sorted(
        (SegmentName(int(match[1]), int(match[2]), stream / name) for match, name in matches if match),
        key=lambda segment: segment.seq,
    )


def segment_ends(segments: list[SegmentName]) -> list[int | None]:
    """For each segment the LSN where the next one takes over (what stands past it is void); None for the last."""
    return [*(segment.base for segment in segments[1:]), None][: len(segments)]


def list_streams(journal: Path) -> list[str]:
    """Names of all streams, those of the dead included, oldest first; empty if there is no journal yet."""
    try:
        names = [entry.name for entry in os.scandir(journal) if entry.is_dir() and entry.name[0] != "."]
    except FileNotFoundError:
        return []
    return sorted(names, key=lambda name: name.rpartition("-")[2])


def new_stream(files: Files, journal: Path, worker: int) -> tuple[Path, int]:
    """Create and lock `<node>-<worker>-<boot id>`; returns its path and the lock's descriptor. Raises OSError."""
    node = re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())[:64] or "node"
    name = f"{node}-{worker}-{new_id()}"
    hidden = journal / f".new-{name}"
    files.mkdir(hidden)
    lock_fd = files.open(hidden / LOCK, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        files.sync_dir(hidden)
        files.point("CP12")
        files.rename(hidden, journal / name)
        files.sync_dir(journal)
    except BaseException:
        os.close(lock_fd)
        raise
    return journal / name, lock_fd


def lock_stream(stream: Path) -> int | None:
    """Lock somebody else's stream; the descriptor, or None if its writer lives or it is gone."""
    for attempt in range(_LOCK_TRIES):
        if attempt:
            time.sleep(0.01)
        try:
            lock_fd = os.open(stream / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between open and flock the previous holder may have removed the stream: a lock on a file without a
            # name locks nothing.
            if (stream / LOCK).stat().st_ino == os.fstat(lock_fd).st_ino:
                return lock_fd
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(lock_fd)
    return None


def is_live(stream: Path) -> bool:
    """Whether some process holds the stream's lock now."""
    try:
        lock_fd = os.open(stream / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock_fd)
    return False


def remove_stream(files: Files, stream: Path) -> None:
    """Remove a stream that the caller has locked. Raises OSError; what is left over is swept later."""
    doomed = stream.parent / f".del-{stream.name}"
    files.rename(stream, doomed)
    files.sync_dir(stream.parent)
    files.point("CP11")
    _remove_tree(files, doomed)


def sweep(files: Files, journal: Path) -> None:
    """Remove what a crash left of streams that were being made or removed."""
    for path in journal.glob(".[nd]e[wl]-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime < _SWEEP_AFTER_S:
                continue
        lock_fd = lock_stream(path)
        if lock_fd is None and (path / LOCK).exists():
            continue
        with contextlib.suppress(OSError):
            _remove_tree(files, path)
        if lock_fd is not None:
            os.close(lock_fd)


def _remove_tree(files: Files, path: Path) -> None:
    # The lock goes last: while it is there and held nobody else sweeps.
    for item in sorted(path.iterdir(), key=lambda item: (item.name == LOCK, item.name)):
        files.unlink(item)
    files.rmdir(path)


def pack_cursor(lsn: int) -> bytes:
    """A cursor file's content."""
    packed = lsn.to_bytes(8, "little")
    return packed + zlib.crc32(packed).to_bytes(4, "little")


def read_cursor(path: Path) -> int:
    """The LSN in a cursor file; 0 if there is none, or none that is whole."""
    for _ in range(3):  # a read may cross the writer's pwrite
        try:
            data = path.read_bytes()
        except OSError:
            return 0
        if len(data) == _CURSOR.size:
            lsn, crc = _CURSOR.unpack(data)
            if zlib.crc32(data[:8]) == crc:
                return int(lsn)
    return 0


def publish_filed(journal: Path, stream: str, lsn: int) -> None:
    """The filer has committed everything before `lsn` (call it after the commit). Raises OSError.

    A cursor that a crash loses only delays deletion, so nothing is fsynced.
    """
    path = journal / stream
    if not path.is_dir():  # settled, and removed by its writer
        return
    temporary = path / f".{FILED}"
    try:
        temporary.write_bytes(pack_cursor(lsn))
        temporary.replace(path / FILED)
    except OSError:  # a full disk has no room for a new file, but this very cursor may be what frees it
        with (path / FILED).open("r+b", buffering=0) as file:
            file.write(pack_cursor(lsn))


def check_name(stream: str) -> str:
    """A stream's name from outside, as a path component and nothing more; raises JournalError."""
    if not stream or stream.startswith(".") or "/" in stream or "\0" in stream:
        raise JournalError(f"not a stream name: {stream!r}")
    return stream
