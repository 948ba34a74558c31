"""How many entries a second the journal makes durable: 4 KB each, by 1, 50 and 500 appenders at a time.

Each appender waits for its entry's fsync, then appends the marks that settle it. Run `python -m bench.journal [DIR]`;
the figures depend on the disk under DIR (default: a temporary directory) above all.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from proxy.journal import Entry, Fate, JournalReader, JournalWriter, Mark, new_id, publish_filed
from proxy.settings import JournalSettings

BODY = os.urandom(3000).hex()[:4094].encode() + b"\r\n"
SECONDS = 4.0


def entry() -> Entry:
    return Entry(
        id=new_id(),
        received_ns=time.time_ns(),
        peer="192.0.2.1:40000",
        helo=b"mx.example.net",
        tls="",
        mail_arg=b"<>",
        rcpt_args=(b"<bounce+12345=user=example.org@bounces.example.com>",),
        wire=BODY,
        digest=os.urandom(32),
    )


async def appenders(count: int, directory: Path) -> tuple[int, float, list[float], float]:
    """(entries, seconds, latencies, CPU seconds)."""
    settings = JournalSettings(dir=directory, reserve_bytes=0, max_backlog_bytes=1 << 50)
    writer = await JournalWriter.open(settings)
    latencies: list[float] = []
    end = time.monotonic() + SECONDS

    async def appender() -> None:
        while time.monotonic() < end:
            record = entry()
            began = time.perf_counter()
            await writer.append_entry(record)
            latencies.append(time.perf_counter() - began)
            writer.append_mark(Mark(record.id, time.time_ns(), (0,), Fate.FORWARDED, 250, "ok", "192.0.2.9:25"))
            writer.append_mark(Mark(record.id, time.time_ns(), answered=250))

    usage = resource.getrusage(resource.RUSAGE_SELF)
    began = time.monotonic()
    await asyncio.gather(*(appender() for _ in range(count)))
    await writer.flush()
    seconds = time.monotonic() - began
    used = resource.getrusage(resource.RUSAGE_SELF)
    await writer.close()
    cpu = used.ru_utime + used.ru_stime - usage.ru_utime - usage.ru_stime
    return len(latencies), seconds, sorted(latencies), cpu


def read_back(directory: Path) -> tuple[int, int, float]:
    """(records, bytes, seconds) of one pass of the filer's reader, which then lets everything go."""
    reader = JournalReader(directory)
    began, records, size = time.monotonic(), 0, 0
    while items := reader.poll():
        records += len(items)
    for stream in reader.streams():
        size += reader.position(stream)
        publish_filed(directory, stream, reader.position(stream))
    seconds = time.monotonic() - began
    reader.close()
    return records, size, seconds


async def recover(directory: Path) -> float:
    """Seconds that adopting everything takes."""
    settings = JournalSettings(dir=directory, reserve_bytes=0)
    began = time.monotonic()
    writer = await JournalWriter.open(settings)
    await writer.adopt_orphans()
    seconds = time.monotonic() - began
    for _ in range(3):
        await writer.housekeep()
    await writer.close()
    return seconds


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        print(f"{'appenders':>9} {'entries/s':>10} {'p50 ms':>8} {'p99 ms':>8} {'CPU us each':>12}")
        for count in (1, 50, 500):
            done, seconds, latencies, cpu = uvloop.run(appenders(count, Path(name)))
            p50, p99 = latencies[done // 2] * 1e3, latencies[done * 99 // 100] * 1e3
            print(f"{count:>9} {done / seconds:>10.0f} {p50:>8.2f} {p99:>8.2f} {cpu / done * 1e6:>12.0f}")
        records, size, seconds = read_back(Path(name))
        print(f"read:    {records / seconds:.0f} records/s, {size / seconds / 1e6:.0f} MB/s")
        seconds = uvloop.run(recover(Path(name)))
        print(f"recover: {size / 1e6:.0f} MB, {records} records in {seconds:.2f} s ({records / seconds:.0f}/s)")


if __name__ == "__main__":
    main()
