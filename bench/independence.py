"""Forwarding while what stands behind the journal is away: messages a second, and the ratio to when all is well.

A tap of real processes in front of `tests.support.handler`; the same load each time, with filer and IMAP server
running, killed, frozen (SIGSTOP), and with a filer that has no disk space (`journal.reserve`). The median of some
rounds. Above 1.00 means faster: on few cores the filer and the proxy contend.
`python -m bench.independence [--messages N] [--rounds N]`
"""

from __future__ import annotations

import argparse
import signal
import statistics
import tempfile
from pathlib import Path

import uvloop

from bench.proxy import load, process
from tests.support.tap import Tap

DOMAIN = '"bounces.example"'  # the load's
SESSIONS = 20
BODY = b"Subject: returned mail\r\n\r\n" + (b"x" * 76 + b"\r\n") * 50 + b".\r\n"
LIMITS = "[proxy.limits]\nmessages_per_connection = 1000000\n"
WELL = "running"


def rate(tap: Tap, messages: int) -> float:
    """Messages a second that the tap acknowledges."""
    return uvloop.run(load(tap.smtp_port, SESSIONS, messages, BODY, kept=True)).rate


def freeze(tap: Tap, *, on: bool) -> None:
    for part in ("filer", "imap"):
        tap.send_signal(part, signal.SIGSTOP if on else signal.SIGCONT)


def measure(directory: Path, sink: int, messages: int) -> dict[str, float]:
    """One round."""
    found: dict[str, float] = {}
    tap = Tap(directory, handler_port=sink, domains=DOMAIN, extra=LIMITS)
    try:
        tap.start("proxy", "filer", "imap")
        rate(tap, messages)  # warm up
        found[WELL] = rate(tap, messages)
        freeze(tap, on=True)
        found["frozen"] = rate(tap, messages)
        freeze(tap, on=False)
        for part in ("filer", "imap"):
            tap.kill(part)
        found["killed"] = rate(tap, messages)
    finally:
        tap.stop()
    full = Tap(directory / "full", handler_port=sink, domains=DOMAIN, extra=LIMITS + '[journal]\nreserve = "100TB"\n')
    try:
        full.start("proxy", "filer", "imap")
        rate(full, messages)
        found["disk full"] = rate(full, messages)
    finally:
        full.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.independence")
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rounds: list[dict[str, float]] = []
    with process("-m", "tests.support.handler") as (_, sink):
        for _ in range(args.rounds):
            with tempfile.TemporaryDirectory() as name:
                (Path(name) / "full").mkdir()
                rounds.append(measure(Path(name), sink, args.messages))
    well = statistics.median(found[WELL] for found in rounds)
    print("filer and IMAP   messages/s   ratio")
    for fault in rounds[0]:
        found_rate = statistics.median(found[fault] for found in rounds)
        print(f"{fault:<16} {found_rate:>10.0f} {found_rate / well:>7.2f}")


if __name__ == "__main__":
    main()
