"""What a crash, or a vanished client, left without our reply: so that a byte-identical resend is not taken twice.

A file of JSON lines shared by all workers of a journal directory, kept for 5 days: the digest of the submission, the
id of its record, and the handler's 5xx if it had refused it (code 0: to be answered 250).
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.journal.files import Files

KEEP_S = 5 * 86_400
MAX_HITS = 500_000
ANSWERED = -1  # the code of a line that takes a digest back: its resend was answered
_NAME = "unanswered"


@dataclass(frozen=True, slots=True)
class UnansweredHit:
    """A submission that is on record but that its sender never heard of. `at_s` is Unix time."""

    digest: bytes
    id: str
    code: int
    text: str
    at_s: float


class Unanswered:
    """The set in memory, and its file. `get` is a dict look-up; everything else touches the disk (OSError)."""

    def __init__(self, files: Files, journal: Path) -> None:
        self._files = files
        self._journal = journal
        self._path = journal / _NAME
        self._hits: dict[bytes, UnansweredHit] = {}
        self._seen: tuple[int, int] = (0, 0)  # inode and size of the file when it was read last

    def __len__(self) -> int:
        return len(self._hits)

    def get(self, digest: bytes) -> UnansweredHit | None:
        """The hit, unless it is older than 5 days."""
        hit = self._hits.get(digest)
        return hit if hit is not None and hit.code != ANSWERED and hit.at_s > time.time() - KEEP_S else None

    def remember(self, hit: UnansweredHit) -> None:
        """In memory at once; `store` makes it last."""
        self._hits[hit.digest] = hit

    def store(self, hits: Sequence[UnansweredHit]) -> None:
        """Append and fsync."""
        for hit in hits:
            self.remember(hit)
        with self._locked():
            fd = self._files.open(self._path, os.O_RDWR | os.O_CREAT)
            try:
                size = os.fstat(fd).st_size
                # A torn line of a crash must not swallow ours: begin with a line end.
                self._write(fd, b"\n" + b"".join(map(_line, hits)), size)
                self._files.fdatasync(fd)
            finally:
                self._files.close(fd)
            self._files.sync_dir(self._journal)

    def refresh(self) -> None:
        """Read what other workers have written since; rewrite the file once most of it has expired."""
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return
        if (stat.st_ino, stat.st_size) == self._seen:
            return
        self._seen = (stat.st_ino, stat.st_size)
        now = time.time()
        lines = self._path.read_bytes().splitlines()
        hits = [hit for hit in map(_hit, lines) if hit is not None]
        fresh = [hit for hit in hits if hit.at_s > now - KEEP_S][-MAX_HITS:]
        self._hits = {hit.digest: hit for hit in fresh}
        if len(self._hits) * 2 < len(hits):
            self._rewrite()

    def _rewrite(self) -> None:
        with self._locked():
            temporary = self._journal / f".{_NAME}"
            fd = self._files.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            try:
                self._write(fd, b"".join(map(_line, self._hits.values())), 0)
                self._files.fdatasync(fd)
            finally:
                self._files.close(fd)
            self._files.rename(temporary, self._path)
            self._files.sync_dir(self._journal)

    def _write(self, fd: int, data: bytes, offset: int) -> None:
        while data:
            written = self._files.pwrite(fd, data, offset)
            data, offset = data[written:], offset + written

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(self._journal / f".{_NAME}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def _line(hit: UnansweredHit) -> bytes:
    fields = {"digest": hit.digest.hex(), "id": hit.id, "code": hit.code, "text": hit.text, "at_s": hit.at_s}
    return json.dumps(fields).encode() + b"\n"


def _hit(line: bytes) -> UnansweredHit | None:
    try:
        fields = json.loads(line)
        return UnansweredHit(
            bytes.fromhex(fields["digest"]),
            str(fields["id"]),
            int(fields["code"]),
            str(fields["text"]),
            float(fields["at_s"]),
        )
    except (ValueError, KeyError, TypeError):
        return None
