r"""Salvage: mail that lies in the segments, and of which the index knows nothing, is filed again.

An index that was lost, or restored from a backup, knows nothing of what was filed since; the bytes are in the segments
all the same, and expiry leaves them alone. Each frame there is told by its journal id: one that no row has is
classified anew and filed as if it had just come from the journal, into a segment of its own day, with what its
annotation says of the envelope and of the handler's reply at the time when it was filed first. Where a segment's row
is there, only frames past those that the index ever counted are looked at: the others were expunged or have expired.
What lay in a segment of the class `held` is held again.

| it dies | what is there then | the next run |
|---|---|---|
| before a batch is committed | new frames that no row points to; expiry sweeps them with their file | files them |
| after it | rows, new frames, and the old ones | passes over what is known by now |
| before an old file is unlinked | all its messages a second time on disk | unlinks it |

A file is unlinked once no row knows it and every byte of it was read and is filed: one with damage stays, and is told.
What is not in a frame is lost: the sender's host, parameters of MAIL and RCPT, flags, moves by hand, later replies.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa

from proxy.journal.files import Files
from proxy.journal.ids import time_ns
from proxy.journal.records import Entry
from store.annotate import read as read_annotation
from store.carrying import HELD
from store.entries import chunks
from store.filing import BatchFiler, Filing
from store.lock import filer_lock
from store.outcomes import Outcomes, from_legacy
from store.prepare import Job
from store.quarantine import Quarantine
from store.schema import messages, segments
from store.segments import FIRST_FRAME, DamagedFrame, Frame, FrameHeader, Place, read, walk
from store.settings import StoreSettings
from store.uidvalidity import Mirror
from store.workers import Worker, Workers

BATCH_MESSAGES, BATCH_BYTES = 500, 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What was found in one file: frames that no row knew, how many of them cannot be read, bytes that are no frame.

    `path` is relative to the quarantine directory; `removed`: it was unlinked, as all of it is filed elsewhere.
    """

    path: str
    unknown: int
    unreadable: int
    torn_bytes: int
    removed: bool


def salvage_now(
    quarantine: Quarantine, workers: Workers, *, dry_run: bool = False, files: Files | None = None
) -> Iterator[Salvaged]:
    """File what no row knows, file by file, where no filer runs; `dry_run` only counts.

    Raises Locked, OSError, SQLAlchemyError, WorkerUnusable; run it again then.
    """
    with filer_lock(quarantine.settings.state_dir):
        filer = BatchFiler(quarantine, files)
        try:
            for name in sorted(quarantine.directory.glob("*/*.seg")):
                file = _look(quarantine, f"{name.parent.name}/{name.name}")
                if file.unknown or file.orphan:
                    yield _count(quarantine, file) if dry_run else _salvage(quarantine, file, filer, workers)
            if not dry_run:
                Mirror(quarantine.index, quarantine.settings.state_dir).write()
        finally:
            filer.close()


@dataclass(frozen=True, slots=True)
class _File:
    """A segment with the frames in it that no row knows; `orphan`: no row knows the file itself."""

    path: str
    orphan: bool
    unknown: list[FrameHeader]
    torn_bytes: int


@dataclass(frozen=True, slots=True)
class _Found:
    """A frame, and what it tells of how it came."""

    frame: Frame
    entry: Entry
    outcomes: Outcomes


def _look(quarantine: Quarantine, path: str) -> _File:
    file, counted_bytes = quarantine.directory / path, sa.select(segments.c.written_bytes)
    with quarantine.index.read() as connection:
        counted = connection.execute(counted_bytes.where(segments.c.path == path)).scalar_one_or_none()
        start = end = FIRST_FRAME + (counted or 0)
        unknown: list[FrameHeader] = []
        for piece in chunks(walk(file, start)):
            query = sa.select(messages.c.id).where(messages.c.id.in_([frame.id for frame in piece]))
            known = set(connection.execute(query).scalars())
            unknown += [frame for frame in piece if frame.id not in known]
            end = piece[-1].offset + piece[-1].size_bytes
    return _File(path, counted is None, unknown, max(0, file.stat().st_size - end))


def _count(quarantine: Quarantine, file: _File) -> Salvaged:
    """What is there, without filing it."""
    unreadable = sum(_found(quarantine, file, header) is None for header in file.unknown)
    return Salvaged(file.path, len(file.unknown), unreadable, file.torn_bytes, removed=False)


def _salvage(quarantine: Quarantine, file: _File, filer: BatchFiler, workers: Workers) -> Salvaged:
    """File all that can be read, and unlink the file if nothing is left that is only there."""
    held = file.path.partition("/")[2].startswith(f"{HELD}-")
    unreadable = 0
    for headers in _batches(file.unknown):
        _check_room(quarantine.settings)
        found = [one for header in headers if (one := _found(quarantine, file, header))]
        unreadable += len(headers) - len(found)
        jobs = [_job(quarantine.settings, one) for one in found]
        made = workers.submit(partial(Worker.prepare, jobs=jobs)).result()
        filings = [
            Filing(one.entry, one.frame.original, prepared, one.outcomes, held)
            for one, prepared in zip(found, made, strict=True)
        ]
        filer.file(filings)
    filer.point("salvaged")
    removed = file.orphan and not unreadable and not file.torn_bytes
    if removed:
        (quarantine.directory / file.path).unlink()
    return Salvaged(file.path, len(file.unknown), unreadable, file.torn_bytes, removed)


def _check_room(settings: StoreSettings) -> None:
    """The journal's reserve is the journal's. Raises OSError."""
    free_bytes = shutil.disk_usage(settings.state_dir).free
    if free_bytes < settings.reserve_bytes + BATCH_BYTES:
        raise OSError(errno.ENOSPC, f"{free_bytes} bytes are free, and [journal] reserve is for the journal")


def _batches(headers: list[FrameHeader]) -> Iterator[list[FrameHeader]]:
    batch: list[FrameHeader] = []
    size_bytes = 0
    for header in headers:
        if batch and (len(batch) >= BATCH_MESSAGES or size_bytes + header.original_bytes > BATCH_BYTES):
            yield batch
            batch, size_bytes = [], 0
        batch.append(header)
        size_bytes += header.original_bytes
    if batch:
        yield batch


def _found(quarantine: Quarantine, file: _File, header: FrameHeader) -> _Found | None:
    """The frame there, if it is wholly what was written."""
    try:
        frame = read(quarantine.directory, Place(file.path, header.offset, header.size_bytes))
        if hashlib.sha256(frame.original).hexdigest() != json.loads(frame.verdict)["sha256"]:
            return None
        facts = read_annotation(frame.annotation)
        received_ns = time_ns(frame.id)
    except (DamagedFrame, ValueError, KeyError):
        return None
    entry = Entry(
        id=frame.id,
        received_ns=received_ns,
        peer="",
        helo=b"",
        tls="",
        mail_arg=b"<%b>" % facts.return_path.encode(),
        rcpt_args=tuple(b"<%b>" % address.encode() for address in facts.envelope_to),
        wire=b"",  # it is for those who read the journal
        digest=b"",
    )
    return _Found(frame, entry, from_legacy(facts.legacy, len(entry.rcpt_args), received_ns))


def _job(settings: StoreSettings, one: _Found) -> Job:
    return Job(
        id=one.entry.id,
        received_ns=one.entry.received_ns,
        original=one.frame.original,
        mail_arg=one.entry.mail_arg,
        rcpt_args=one.entry.rcpt_args,
        legacy=one.outcomes.legacy,
        retention=settings.retention,
        patterns=settings.patterns,
    )
