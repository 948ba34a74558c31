"""Every file operation by which the journal changes the disk, behind one small object.

The writer and recovery go through a `Files`, so that tests can record the sequence of writes and fsyncs, fail any
of them, or kill the process between any two. Reading needs no such care and uses `os` directly.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

_NO_FALLOCATE = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENODEV}


class Files:
    """The real thing: each method is one system call (or a few); all raise OSError."""

    def open(self, path: Path, flags: int) -> int:
        """A descriptor, close-on-exec; a new file is readable by its owner only."""
        return os.open(path, flags | os.O_CLOEXEC, 0o600)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        """Bytes written, maybe fewer than given."""
        return os.pwrite(fd, data, offset)

    def pwritev(self, fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        """Bytes written, maybe fewer than given; at most IOV_MAX buffers."""
        return os.pwritev(fd, buffers, offset)

    def fdatasync(self, fd: int) -> None:
        """The file's bytes, and the size needed to read them, are on disk."""
        os.fdatasync(fd)

    def fallocate(self, fd: int, size_bytes: int) -> None:
        """Reserve blocks, where the file system can; ENOSPC is told, not having the call is not."""
        try:
            os.posix_fallocate(fd, 0, size_bytes)
        except OSError as error:
            if error.errno not in _NO_FALLOCATE:
                raise

    def ftruncate(self, fd: int, size_bytes: int) -> None:
        """Cut or extend."""
        os.ftruncate(fd, size_bytes)

    def close(self, fd: int) -> None:
        """Close; the descriptor is gone whatever is raised."""
        os.close(fd)

    def mkdir(self, path: Path) -> None:
        """Make one directory, 0700."""
        path.mkdir(mode=0o700)

    def rename(self, source: Path, target: Path) -> None:
        """Atomic within a file system; an existing target file is replaced."""
        source.rename(target)

    def unlink(self, path: Path) -> None:
        """Remove a file's name."""
        path.unlink()

    def rmdir(self, path: Path) -> None:
        """Remove an empty directory."""
        path.rmdir()

    def sync_dir(self, path: Path) -> None:
        """The names in `path` are on disk."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def free_bytes(self, path: Path) -> int:
        """What an unprivileged user may still write to the file system of `path`."""
        stat = os.statvfs(path)
        return stat.f_bavail * stat.f_frsize

    def point(self, name: str) -> None:
        """A named crash point (`CP1` ...) of the package docstring has been reached: tests die here."""
