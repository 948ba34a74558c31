"""How many messages a second the filer files and where the time goes, bytes a message on disk, what expiry takes.

`python -m bench.filing [MESSAGES] [DIR]`: bounces of 4 KB, of which half is noise that does not compress like text.
`filer` is all of it (journal, classification in workers, filing), by as many workers as the machine has room for;
`stages` is the same work in one process, each part timed by itself; `filing` leaves classification out.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

import store.prepare
from classifier.classify import warm_up
from proxy.journal import Entry, Fate, JournalWriter, Mark, new_id
from proxy.journal.records import unstuffed
from proxy.settings import JournalSettings
from store.accounts import Accounts
from store.expiry import Expiry
from store.filing import BatchFiler, Filing
from store.filing_loop import FilingLoop
from store.imap.roles import FlagChange
from store.mailboxes import Mailboxes
from store.outcomes import Outcomes
from store.prepare import Job, prepare
from store.quarantine import Quarantine
from store.segments import SegmentWriter
from store.settings import DAY_S, StoreSettings

SIZE_BYTES = 4096
DELIVERED = (
    Outcomes(1).after(Mark("", 1, (0,), Fate.FORWARDED, 250, "2.0.0 taken", "h")).after(Mark("", 2, answered=250))
)
POOL = 1000
WORDS = "the mailbox of your message could not be delivered user unknown try again later quota policy".split()  # noqa: SIM905
REPORT = (
    "From: Mail Delivery System <MAILER-DAEMON@mx{n}.example>\r\nTo: bounce+{n}@bounces.example.com\r\n"
    "Subject: Undelivered Mail Returned to Sender\r\nDate: Tue, 24 Nov 2026 07:56:08 +0000\r\n"
    "Message-ID: <{n}@mx{n}.example>\r\nMIME-Version: 1.0\r\nAuto-Submitted: auto-replied\r\n"
    'Content-Type: multipart/report; report-type=delivery-status; boundary="b{n}"\r\n\r\n'
    "--b{n}\r\nContent-Type: text/plain\r\n\r\nThis is the mail system at host mx{n}.example.\r\n\r\n{text}\r\n"
    "--b{n}\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx{n}.example\r\n\r\n"
    "Final-Recipient: rfc822; user{n}@example.org\r\nAction: failed\r\nStatus: 5.1.1\r\n"
    "Diagnostic-Code: smtp; 550 5.1.1 <user{n}@example.org>: User unknown\r\n\r\n"
    "--b{n}\r\nContent-Type: message/rfc822\r\n\r\nFrom: us@example.com\r\nTo: user{n}@example.org\r\n"
    "Subject: Offer {n}\r\nMessage-ID: <{n}@example.com>\r\n\r\n{noise}\r\n--b{n}--\r\n"
)


def message(number: int) -> bytes:
    dice = random.Random(number)
    text = " ".join(dice.choices(WORDS, k=80))
    noise = dice.randbytes(SIZE_BYTES).hex()
    head = len(REPORT.format(n=number, text=text, noise=""))
    return REPORT.format(n=number, text=text, noise=noise[: SIZE_BYTES - head]).encode()


def entries(count: int, received_ns: int) -> list[Entry]:
    pool = [message(number) for number in range(min(POOL, count))]
    return [
        Entry(
            id=new_id(),
            received_ns=received_ns,
            peer="192.0.2.1:40000",
            helo=b"mx.example",
            tls="",
            mail_arg=b"<>",
            rcpt_args=(b"<bounce+%d@bounces.example.com>" % number,),
            wire=pool[number % len(pool)],
            digest=os.urandom(32),
        )
        for number in range(count)
    ]


async def into_journal(directory: Path, new: list[Entry]) -> None:
    writer = await JournalWriter.open(JournalSettings(dir=directory, reserve_bytes=0))
    for entry in new:
        writer.append_entry(entry)
        writer.append_mark(Mark(entry.id, 1, (0,), Fate.FORWARDED, 250, "2.0.0 taken", "192.0.2.9:25"))
        writer.append_mark(Mark(entry.id, 2, answered=250))
    await writer.flush()
    await writer.close()


def timed(what: str, count: int, work: Callable[[], object]) -> None:
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    print(f"{what:<34} {count:>8} in {seconds:>7.2f} s  {count / seconds:>9.0f}/s", flush=True)


def size_of(path: Path, pattern: str) -> int:
    return sum(file.stat().st_blocks * 512 for file in path.rglob(pattern) if file.is_file())


def on_disk(what: str, path: Path, count: int) -> None:
    segments, index = size_of(path / "quarantine", "*.seg"), size_of(path, "index.db*")
    print(f"{what:<34} segments {segments / 1e6:.1f} MB, index {index / 1e6:.1f} MB,", end=" ")
    print(f"{segments / count:.0f} + {index / count:.0f} B a message", flush=True)


@contextmanager
def watched(spent: dict[str, tuple[float, float]], *places: tuple[Any, str, str]) -> Iterator[None]:
    """Add up the time spent in functions, (owner, name, label): of the clock, and of the CPU."""
    originals = [getattr(owner, name) for owner, name, _ in places]

    def timing(work: Callable[..., Any], label: str) -> Callable[..., Any]:
        def timed_work(*args: Any, **kwargs: Any) -> Any:
            began, cpu_began = time.perf_counter(), time.thread_time()
            try:
                return work(*args, **kwargs)
            finally:
                clock_s, cpu_s = spent.get(label, (0.0, 0.0))
                spent[label] = clock_s + time.perf_counter() - began, cpu_s + time.thread_time() - cpu_began

        return timed_work

    for (owner, name, label), original in zip(places, originals, strict=True):
        setattr(owner, name, timing(original, label))
    try:
        yield
    finally:
        for (owner, name, _), original in zip(places, originals, strict=True):
            setattr(owner, name, original)


def stages(path: Path, count: int) -> None:
    settings = StoreSettings(state_dir=path, index_url=f"sqlite:///{path}/index.db", reserve_bytes=0)
    quarantine = Quarantine.open(settings)
    filer = BatchFiler(quarantine)
    new = entries(count, time.time_ns())
    warm_up()
    spent: dict[str, tuple[float, float]] = {}
    places = (
        (store.prepare, "classify", "classify"),
        (store.prepare, "describe", "describe for IMAP"),
        (store.prepare, "prepare", "prepare in all"),
        (SegmentWriter, "append", "compress"),
        (SegmentWriter, "sync", "write and fdatasync"),
        (BatchFiler, "_insert", "index rows"),
        (BatchFiler, "file", "file in all (with the index's fsync)"),
    )
    with watched(spent, *places):
        for start in range(0, count, settings.batch_messages):
            batch = []
            for entry in new[start : start + settings.batch_messages]:
                original = unstuffed(entry.wire)
                job = Job(
                    entry.id, entry.received_ns, original, entry.mail_arg, entry.rcpt_args, "250 ok",
                    settings.retention, settings.patterns,
                )  # fmt: skip
                batch.append(Filing(entry, original, store.prepare.prepare(job), DELIVERED))
            filer.file(batch)
    for label, (clock_s, cpu_s) in spent.items():
        print(f"stage: {label:<36} {clock_s / count * 1e6:>7.0f} us a message, {cpu_s / count * 1e6:>5.0f} of CPU")
    filer.close()
    quarantine.close()


def whole_filer(path: Path, count: int) -> None:
    settings = StoreSettings(
        state_dir=path, journal_dir=path / "journal", index_url=f"sqlite:///{path}/index.db", reserve_bytes=0
    )
    asyncio.run(into_journal(settings.journal_dir, entries(count, time.time_ns())))
    loop = FilingLoop(settings)

    def run() -> None:
        while loop.step():
            pass

    warm = loop._pipeline._workers
    for worker in warm.all:
        worker._start()  # loading the rules is the start's, not the messages'
    timed(f"filer (classified by {warm.count}, 4 KB)", count, run)
    assert loop.filed == count
    on_disk("", path, count)
    loop.close()


def filing_and_expiry(path: Path, count: int) -> None:
    settings = StoreSettings(state_dir=path, index_url=f"sqlite:///{path}/index.db", reserve_bytes=0)
    quarantine = Quarantine.open(settings)
    filer = BatchFiler(quarantine)
    now_ns = time.time_ns()
    new = entries(count, now_ns - 40 * DAY_S * 10**9) + entries(count // 10, now_ns)
    made = {}
    for entry in new[:POOL]:
        original = unstuffed(entry.wire)
        job = Job(
            entry.id, 0, original, entry.mail_arg, entry.rcpt_args, "250 ok", settings.retention, settings.patterns
        )
        made[entry.wire] = prepare(job)
    filings = [Filing(e, e.wire, replace(made[e.wire], id=e.id), DELIVERED) for e in new]
    batch = settings.batch_messages

    def file() -> None:
        for start in range(0, len(filings), batch):
            filer.file(filings[start : start + batch])

    timed(f"filing (batches of {batch}, 4 KB)", len(filings), file)
    on_disk("before expiry", path, len(filings))
    mailboxes = Mailboxes(quarantine)
    timed("load a folder for IMAP", len(filings), lambda: sum(1 for _ in mailboxes.load("Bounces/Hard")))
    sample = random.Random(1).sample([entry.id for entry in new], min(2000, len(new)))
    timed("originals read, verified", len(sample), lambda: [quarantine.original(ident) for ident in sample])
    Accounts(quarantine.index).add("bench", "x", "analyst")
    held = range(50, count, 100)  # one in a hundred
    mailboxes.store("Bounces/Hard", "bench", held, FlagChange(flagged=True))
    expiry = Expiry(quarantine, filer)
    worst = 0.0

    def expire() -> None:
        nonlocal worst
        steps = expiry.steps(force=True)
        while True:
            began = time.perf_counter()
            if next(steps, None) is None:
                break
            worst = max(worst, time.perf_counter() - began)

    timed("expiry", count, expire)
    left = mailboxes.folder("Bounces/Hard").messages
    print(f"{'':<34} longest step {worst * 1e3:.0f} ms; {left} left: {count // 10} new, {len(held)} held by \\Flagged")
    assert left == count // 10 + len(held)
    on_disk("after expiry", path, left)
    filer.close()
    quarantine.close()


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    directory = sys.argv[2] if len(sys.argv) > 2 else None
    for run, messages in ((whole_filer, count // 4), (stages, count // 4), (filing_and_expiry, count)):
        with tempfile.TemporaryDirectory(dir=directory) as name:
            run(Path(name), messages)


if __name__ == "__main__":
    main()
