"""Store test helpers: settings under a directory, entries, and filing without a journal."""

from __future__ import annotations

import atexit
import hashlib
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from proxy.journal import JournalWriter
from proxy.journal.ids import new_id
from proxy.journal.records import Entry, Fate, Mark, unstuffed
from proxy.settings import JournalSettings
from store.filing import BatchFiler, Filing
from store.filing_loop import FilingLoop
from store.outcomes import Outcomes
from store.prepare import job_for, prepare
from store.quarantine import Quarantine
from store.schema import entries, folders, messages, segments
from store.settings import StoreSettings
from store.workers import Workers

BOUNCE = (
    b"From: MAILER-DAEMON@mx.example\r\nTo: us@bounces.example\r\nSubject: Undelivered mail\r\n"
    b'MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/plain\r\n\r\nThe mailbox %s does not exist.\r\n"
    b"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\n"
    b"Final-Recipient: rfc822; %s\r\nAction: failed\r\nStatus: 5.1.1\r\n"
    b"Diagnostic-Code: smtp; 550 5.1.1 User unknown\r\n\r\n--b--\r\n"
)


def bounce(address: bytes = b"gone@example.org") -> bytes:
    return BOUNCE % (address, address)


def settings_for(path: Path, **fields: object) -> StoreSettings:
    values: dict[str, object] = {
        "state_dir": path,
        "journal_dir": path / "journal",
        "index_url": f"sqlite:///{path}/index.db",
        "reserve_bytes": 0,
        "poll_interval_s": 0.01,
        **fields,
    }
    return StoreSettings(**values)  # type: ignore[arg-type]


def make_entry(wire: bytes = b"", *, ident: str = "", rcpts: int = 1, **fields: object) -> Entry:
    wire = wire or bounce()
    rcpt_args = tuple(b"<bounce+%d@bounces.example>" % n for n in range(rcpts))
    values: dict[str, object] = {
        "id": ident or new_id(),
        "received_ns": time.time_ns(),
        "peer": "192.0.2.1:40000",
        "helo": b"mx.example",
        "tls": "",
        "mail_arg": b"<>",
        "rcpt_args": rcpt_args,
        "wire": wire,
        "digest": hashlib.sha256(wire + ident.encode()).digest(),
        **fields,
    }
    return Entry(**values)  # type: ignore[arg-type]


def delivered(rcpts: int = 1) -> Outcomes:
    mark = Mark("x", 1, tuple(range(rcpts)), Fate.FORWARDED, 250, "2.0.0 taken", "192.0.2.9:25")
    return Outcomes(rcpts).after(mark).after(Mark("x", 2, answered=250))


def filing(settings: StoreSettings, entry: Entry, outcomes: Outcomes | None = None) -> Filing:
    outcomes = outcomes or delivered(len(entry.rcpt_args))
    original = unstuffed(entry.wire)
    job = job_for(entry, original, outcomes.legacy, settings)
    return Filing(entry, original, prepare(job), outcomes)


def file_all(quarantine: Quarantine, *new: Entry) -> None:
    filer = BatchFiler(quarantine)
    try:
        filer.file([filing(quarantine.settings, entry) for entry in new])
    finally:
        filer.close()


def wait_until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Wait until `condition()` is true; fails after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


class LastingWorkers(Workers):
    """Real workers that outlive the loops which use them: to load all rules takes each new one seconds."""

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass


@cache
def lasting_workers() -> LastingWorkers:
    workers = LastingWorkers(1)
    atexit.register(Workers.close, workers)
    return workers


def filing_loop(settings: StoreSettings, **injected: Any) -> FilingLoop:
    return FilingLoop(settings, workers=lasting_workers(), **injected)


def run_until_idle(loop: FilingLoop) -> None:
    while loop.step():
        pass


async def journal(path: Path, new: Iterable[Entry], *marks: Mark, decide: bool = True) -> None:
    """Append entries, settled as forwarded unless told otherwise, and further marks."""
    writer = await JournalWriter.open(JournalSettings(dir=path, reserve_bytes=0, segment_bytes=1 << 20))
    try:
        for entry in new:
            await writer.append_entry(entry)
            if decide and not entry.refused:
                everyone = tuple(range(len(entry.rcpt_args)))
                writer.append_mark(Mark(entry.id, 1, answered=250))
                writer.append_mark(Mark(entry.id, 2, everyone, Fate.FORWARDED, 250, "2.0.0 taken", "192.0.2.9:25"))
        for mark in marks:
            writer.append_mark(mark)
        await writer.flush()
    finally:
        await writer.close()


def contents(quarantine: Quarantine) -> dict[str, bytes]:
    """Every message by id; one that shows twice fails."""
    with quarantine.index.read() as connection:
        rows = connection.execute(sa.select(messages.c.id, messages.c.pk)).all()
        shown = connection.execute(sa.select(sa.func.count()).select_from(entries)).scalar_one()
        assert shown == len(rows)
    return {ident: quarantine.original(ident) for ident, _ in rows}


def check_books(quarantine: Quarantine) -> None:
    """What is counted is what is there."""
    with quarantine.index.read() as connection:
        for folder in connection.execute(sa.select(folders)).all():
            mine = sa.select(sa.func.count(), sa.func.max(entries.c.uid), sa.func.max(entries.c.modseq))
            count, uid, modseq = connection.execute(mine.where(entries.c.folder_pk == folder.pk)).one()
            assert folder.messages == count
            assert folder.uidnext > (uid or 0)
            assert folder.modseq >= (modseq or 0)
        shown = sa.select(entries.c.message_pk)
        assert connection.execute(sa.select(messages.c.id).where(messages.c.pk.not_in(shown))).all() == []
        assert connection.execute(shown.where(entries.c.message_pk.not_in(sa.select(messages.c.pk)))).all() == []
        lives = sa.select(messages.c.segment_pk, sa.func.count(), sa.func.sum(messages.c.frame_bytes))
        counted = {pk: (count, size) for pk, count, size in connection.execute(lives.group_by(messages.c.segment_pk))}
        for segment in connection.execute(sa.select(segments)):
            assert (segment.live_messages, segment.live_bytes) == counted.pop(segment.pk, (0, 0))
        assert not counted
