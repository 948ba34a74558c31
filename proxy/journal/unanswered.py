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
from proxy.journal.ledger import State

KEEP_S = 5 * 86_400
MAX_HITS = 500_000
_PRUNE_EVERY = 1000  # lines, at least
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
        self._inode = 0  # of the file as it was read last
        self._read_bytes = 0  # so much of it
        self._lines = 0  # that were found in there
        self._prune_at = 0  # lines

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
        """Read what was written since the last time; rewrite the file once most of it is of no use."""
        self._read_on()
        if self._lines >= self._prune_at:
            self._prune()
            if len(self._hits) * 2 < self._lines:
                self._rewrite()
            self._prune_at = self._lines + max(_PRUNE_EVERY, len(self._hits))

    def _read_on(self) -> None:
        try:
            with self._path.open("rb") as file:
                stat = os.fstat(file.fileno())
                if stat.st_ino != self._inode or stat.st_size < self._read_bytes:  # rewritten
                    self._inode, self._read_bytes, self._lines = stat.st_ino, 0, 0
                file.seek(self._read_bytes)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]  # another worker may be in the middle of a line
        self._read_bytes += len(whole)
        for hit in filter(None, map(_hit, whole.splitlines())):
            self._lines += 1
            known = self._hits.get(hit.digest)
            if known is None or known.at_s <= hit.at_s:  # what we remember may be later, and not be written yet
                self._hits[hit.digest] = hit

    def _prune(self) -> None:
        """Forget what has expired, and the oldest beyond `MAX_HITS`."""
        hits = sorted(list(self._hits.values()), key=lambda hit: hit.at_s)  # noqa: C414  a copy: the loop adds to it
        oldest_s = time.time() - KEEP_S
        for place, hit in enumerate(hits):
            if hit.at_s <= oldest_s or place < len(hits) - MAX_HITS:
                self._hits.pop(hit.digest, None)

    def _rewrite(self) -> None:
        with self._locked():
            self._read_on()  # another worker's latest lines must not get lost
            data = b"".join(map(_line, list(self._hits.values())))
            temporary = self._journal / f".{_NAME}"
            fd = self._files.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            try:
                self._write(fd, data, 0)
                self._files.fdatasync(fd)
                self._inode = os.fstat(fd).st_ino
            finally:
                self._files.close(fd)
            self._files.rename(temporary, self._path)
            self._files.sync_dir(self._journal)
            self._read_bytes, self._lines = len(data), data.count(b"\n")

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


def hit_of(state: State) -> UnansweredHit:
    """As of now, for an entry of the ledger."""
    code, text = state.refusal()
    return UnansweredHit(state.digest, state.id, code, text, time.time())


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
