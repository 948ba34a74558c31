"""Store test helpers: settings under a directory, entries, and filing without a journal."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from proxy.journal.ids import new_id
from proxy.journal.records import Entry, Fate, Mark, unstuffed
from store.filing import BatchFiler, Filing
from store.outcomes import Outcomes
from store.prepare import Job, prepare
from store.quarantine import Quarantine
from store.settings import StoreSettings

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
    job = Job(
        entry.id,
        entry.received_ns,
        original,
        entry.mail_arg,
        entry.rcpt_args,
        outcomes.legacy,
        settings.retention,
        settings.patterns,
    )
    return Filing(entry, original, prepare(job), outcomes)


def file_all(quarantine: Quarantine, *entries: Entry) -> None:
    filer = BatchFiler(quarantine)
    try:
        filer.file([filing(quarantine.settings, entry) for entry in entries])
    finally:
        filer.close()
