"""What the IMAP server takes for a large folder: `python -m bench.imap [MESSAGES]` (default 100,000).

Fills a quarantine with synthetic bounces, lets a server process serve it, and times commands over a socket. The
bodies come from one template, so that they are in the page cache: figures are of the server, not of the disk. Then
the same for a folder of 1 GB: 50 messages of 20 MB. Memory is the highest that was seen.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psutil
import uvloop

from bouncetap.parts import return_large_buffers
from proxy.journal.ids import new_id
from store.filing import BatchFiler
from store.imap.server import ImapServer
from store.settings import ImapSettings
from tests.support.imap import Client, Filled, quarantine
from tests.support.store import bounce, filing, make_entry, settings_for

FOLDER = b"Bounces/Hard"
LARGE = b"Replies"
LARGE_COMMANDS = [
    b"SELECT " + LARGE,
    b"FETCH 1:* BODY.PEEK[]",
    b"FETCH 1 BODY.PEEK[]<10000000.65536>",
    b"SEARCH BODY nowhere",
]
COMMANDS = [
    b"FETCH 1:* (UID FLAGS)",
    b"FETCH 1:50 (FLAGS ENVELOPE)",
    b"FETCH 1:1000 (FLAGS ENVELOPE)",
    b"UID SEARCH UNSEEN",
    b"UID SEARCH KEYWORD $bad_mailbox",
    b"UID SEARCH SINCE 1-Jan-2024",
    b"UID SEARCH SUBJECT undelivered",
    b"UID SEARCH FROM nobody@mx.example",
    b"UID SEARCH 1:5000 BODY user471@",
    b"FETCH 1:1000 BODY.PEEK[]",
    b"UID FETCH 1:1000 (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Subject Date Message-ID)])",
    b"UID STORE 1:1000 +FLAGS.SILENT (\\Seen)",
    b"STATUS Bounces/Hard (MESSAGES UNSEEN)",
    b"NOOP",
]


def fill(filled: Filled, count: int) -> float:
    """File `count` bounces, prepared once: only ids, times and the index rows differ."""
    pool = [filing(filled.settings, make_entry(bounce(b"user%d@example.org" % n))) for n in range(1000)]
    filer: BatchFiler = filled.filer
    began = time.perf_counter()
    for start in range(0, count, 1000):
        batch = []
        for number in range(min(1000, count - start)):
            one = pool[number]
            ident = new_id()
            entry = replace(one.entry, id=ident, received_ns=time.time_ns())
            batch.append(replace(one, entry=entry, prepared=replace(one.prepared, id=ident)))
        filer.file(batch)
    return time.perf_counter() - began


def fill_large(filled: Filled) -> None:
    """A gigabyte in 50 messages that do not compress well."""
    text = b"Subject: big\r\n\r\n" + (os.urandom(30_000).hex().encode() + b"\r\n") * 333
    one = filing(filled.settings, make_entry(text))
    for _ in range(50):
        ident = new_id()
        new = replace(one, entry=replace(one.entry, id=ident), prepared=replace(one.prepared, id=ident))
        filled.filer.file([replace(new, prepared=replace(new.prepared, folder=LARGE.decode()))])


async def measure(port: int, pid: int) -> None:
    """Time each command; the server runs in process `pid`."""
    process = psutil.Process(pid)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    client = Client(reader, writer)
    await client.response()
    secret = b'a good pass \\ word"'
    client.send(b"l LOGIN anna {%d+}\r\n%b\r\n" % (len(secret), secret))
    await client.until(b"l ")
    rss = process.memory_info().rss / 1e6
    print(f"{'after login':45} {'':>10} {rss:8.0f} MB")
    for command in [b"SELECT " + FOLDER, b"SELECT " + FOLDER, *COMMANDS, *LARGE_COMMANDS]:
        began = time.perf_counter()
        size, rss = await _drain(client, command, process)
        took_s = time.perf_counter() - began
        print(f"{command.decode()[:45]:45} {took_s * 1000:8.1f} ms {rss:8.0f} MB  {size:>12,} bytes")
    writer.close()


async def _drain(client: Client, command: bytes, process: psutil.Process) -> tuple[int, float]:
    """Send, and read to the tagged reply without looking closer: the client must not be what is measured.

    Gives bytes, and the most memory (MB) that the server was seen to hold.
    """
    client.send(b"tag " + command + b"\r\n")
    size, tail, rss = 0, b"", 0.0
    while True:
        data = await client.reader.read(1_000_000)
        rss = max(rss, process.memory_info().rss / 1e6)
        assert data
        size += len(data)
        tail = (tail + data)[-300:]
        at = tail.rfind(b"tag ")
        if at >= 0 and tail.endswith(b"\r\n") and (at == 0 or tail[at - 1] == 0x0A):
            assert tail[at:].startswith(b"tag OK"), tail[at:]
            return size, rss


async def serve(directory: Path) -> None:
    """The server process: prints its port, runs until its input ends."""
    server = ImapServer(ImapSettings(listen=("127.0.0.1:0",), store=settings_for(directory)))
    await server.start()
    print(f"port {server.addresses[0][1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop()


def main() -> None:
    if "--serve" in sys.argv:  # as `bouncetap imap` runs it
        return_large_buffers()
        uvloop.run(serve(Path(sys.argv[-1])))
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as name:
        filled = quarantine(Path(name))
        took_s = fill(filled, count)
        fill_large(filled)
        filled.close()
        print(f"{count:,} messages filed in {took_s:.1f} s ({count / took_s:,.0f}/s, prepared beforehand)")
        command = [sys.executable, "-m", "bench.imap", "--serve", name]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ)) as process:
            assert process.stdout is not None
            port = next(int(line.split()[1]) for line in process.stdout if line.startswith(b"port "))
            asyncio.run(measure(port, process.pid))
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


if __name__ == "__main__":
    main()
