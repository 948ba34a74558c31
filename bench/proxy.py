"""Messages a second and latency through the tap, against the direct path to the same sink: side by side in one run.

Sink, tap and load are processes of their own; on a machine with few cores they contend, so the ratios mean more than
the rates. Each cell is the median of `--rounds` interleaved rounds. "conn": one message a connection; "kept": all on
connections that are kept. Latency is from connect (or MAIL) to the reply to the dot, one message after the other.
`python -m bench.proxy [--messages N] [--rounds N] [--size BYTES] [--dir DIR]`
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

ENVELOPE = b"MAIL FROM:<> SIZE=4096\r\nRCPT TO:<bounce+12345=user=example.org@bounces.example>\r\nDATA\r\n"


@dataclass
class Result:
    """One cell of one round. `cpu_us`: of the tap's process, a message."""

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float = 0.0


class Load(asyncio.Protocol):
    """A client that counts replies; one at a time."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._got = 0
        self._wanted = 1
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        for line in lines:
            if line[3:4] == b"-":
                continue
            assert line[:1] in b"23", line
            self._got += 1
        if self._got >= self._wanted and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionError("closed"))

    async def replies(self, wanted: int) -> None:
        self._wanted = wanted
        if self._got < wanted:
            self._waiter = self._loop.create_future()
            await self._waiter
            self._waiter = None
        self._got -= wanted

    async def hello(self) -> None:
        await self.replies(1)
        self.transport.write(b"EHLO load.example\r\n")
        await self.replies(1)

    async def message(self, body: bytes) -> None:
        self.transport.write(ENVELOPE)
        await self.replies(3)
        self.transport.write(body)
        await self.replies(1)


async def load(port: int, sessions: int, messages: int, body: bytes, *, kept: bool) -> Result:
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    left = messages

    async def session() -> None:
        nonlocal left
        client: Load | None = None
        while left > 0:
            left -= 1
            began = time.perf_counter()
            if client is None:
                _, client = await loop.create_connection(Load, "127.0.0.1", port)
                await client.hello()
                if kept:
                    began = time.perf_counter()
            await client.message(b"Message-ID: <%d.%d@load.example>\r\n%b" % (port, left, body))
            latencies.append(time.perf_counter() - began)
            if not kept:
                client.transport.write(b"QUIT\r\n")
                client.transport.close()
                client = None
        if client is not None:
            client.transport.close()

    gc.disable()
    began = time.perf_counter()
    await asyncio.gather(*(session() for _ in range(sessions)))
    seconds = time.perf_counter() - began
    gc.enable()
    latencies.sort()
    count = len(latencies)
    return Result(count / seconds, latencies[count // 2] * 1e3, latencies[count * 99 // 100] * 1e3)


def serve_tap(directory: Path, sink: int) -> None:
    """The tap, set up as the shell does it."""
    from bouncetap.logs import configure  # noqa: PLC0415  only this process needs them
    from proxy.server import ProxyServer  # noqa: PLC0415
    from proxy.settings import JournalSettings, Legacy, Limits, Listen, ProxySettings  # noqa: PLC0415

    configure("proxy")
    limits = Limits(connections_per_address=10_000, rate_per_address=10_000_000, messages_per_connection=1 << 30)
    settings = ProxySettings(
        Listen(("127.0.0.1:0",), "tap.example", ("bounces.example",), limits=limits, drain_timeout_s=1.0),
        Legacy((f"127.0.0.1:{sink}",)),
        JournalSettings(directory / "journal", reserve_bytes=0),
        directory,
    )

    async def run() -> None:
        server = ProxyServer(settings)
        await server.start()
        gc.freeze()
        sys.stdout.write(server.endpoints()[0].rpartition(":")[2] + "\n")
        sys.stdout.flush()
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        await ended.wait()
        await server.stop()

    uvloop.run(run())


@contextmanager
def process(*args: str) -> Iterator[tuple[int, int]]:
    """(pid, port) of a process of ours that prints its port."""
    log = subprocess.DEVNULL
    child = subprocess.Popen([sys.executable, *args], stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert child.stdout is not None
        yield child.pid, int(child.stdout.readline())
    finally:
        child.terminate()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def median(results: list[Result]) -> Result:
    return Result(*(statistics.median(getattr(r, name) for r in results) for name in Result.__dataclass_fields__))


def measure(args: argparse.Namespace, directory: Path) -> None:
    body = b"Subject: returned mail\r\n\r\n" + (b"x" * 76 + b"\r\n") * (args.size // 78) + b".\r\n"
    cells = [(sessions, kept) for kept in (False, True) for sessions in (1, 50)]
    found: dict[tuple[int, bool, str], list[Result]] = {}
    with (
        process("-m", "tests.support.handler") as (_, sink),
        process("-m", "bench.proxy", "--tap", str(directory), "--sink", str(sink)) as (pid, tap),
    ):
        for port in (sink, tap):
            uvloop.run(load(port, 50, 1000, body, kept=True))  # warm up
        for _ in range(args.rounds):
            for sessions, kept in cells:
                count = args.messages if sessions > 1 else args.messages // 4
                for name, port in (("direct", sink), ("tap", tap)):
                    used = cpu_s(pid)
                    result = uvloop.run(load(port, sessions, count, body, kept=kept))
                    result.cpu_us = (cpu_s(pid) - used) / count * 1e6
                    found.setdefault((sessions, kept, name), []).append(result)
    print(f"{len(body)} bytes a message, median of {args.rounds} rounds; p50/p99 in ms; CPU of the tap in us a message")
    heads = ("direct/s", "tap/s", "ratio", "direct ms", "tap ms", "added", "CPU")
    print("sessions      {:>9} {:>9} {:>6} {:>13} {:>13} {:>6} {:>5}".format(*heads))
    for sessions, kept in cells:
        direct, tapped = median(found[sessions, kept, "direct"]), median(found[sessions, kept, "tap"])
        times = [f"{result.p50_ms:.2f}/{result.p99_ms:.2f}" for result in (direct, tapped)]
        print(
            f"{sessions:>8} {'kept' if kept else 'conn':5} {direct.rate:>9.0f} {tapped.rate:>9.0f}"
            f" {tapped.rate / direct.rate:>6.2f} {times[0]:>13} {times[1]:>13}"
            f" {tapped.p50_ms - direct.p50_ms:>6.2f} {tapped.cpu_us:>5.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.proxy")
    parser.add_argument("--messages", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--dir", type=Path, help="where the journal goes (default: a temporary directory)")
    parser.add_argument("--tap", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--sink", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.tap:
        serve_tap(args.tap, args.sink)
        return
    with tempfile.TemporaryDirectory(dir=args.dir) as name:
        measure(args, Path(name))


if __name__ == "__main__":
    main()
