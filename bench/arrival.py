"""How soon an analyst sees a message: from the sender's connection to the folder's count over IMAP, in seconds.

A tap of real processes in front of `tests.support.handler`, one bounce at a time.
`python -m bench.arrival [--messages N]`
"""

from __future__ import annotations

import argparse
import asyncio
import imaplib
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.proxy import process
from tests.support.smtp import Mail, send_all
from tests.support.tap import Tap

POLL_S = 0.002
BOUNCE = (Path(__file__).parents[1] / "fixtures/bounce/mailbox-full.eml").read_bytes()


def seconds(tap: Tap, client: imaplib.IMAP4, number: int) -> float:
    """Of one message."""
    mail = Mail(BOUNCE.replace(b"Subject: ", b"Subject: %d " % number, 1))
    began = time.perf_counter()
    asyncio.run(send_all(tap.smtp_port, [mail]))
    while int(client.select("Bounces/Soft", readonly=True)[1][0] or 0) <= number:
        time.sleep(POLL_S)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=50)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, process("-m", "tests.support.handler") as (_, port):
        tap = Tap(Path(directory), handler_port=port)
        tap.start("proxy", "filer", "imap")
        tap.cli("account", "add", "bench", "--role", "reader", "--password-stdin", stdin=b"bench\n")
        client = imaplib.IMAP4("127.0.0.1", tap.imap_port)
        client.login("bench", "bench")
        first, *others = [seconds(tap, client, number) for number in range(arguments.messages)]
        client.logout()
        tap.stop()
    sys.stdout.write(
        f"sent until seen over IMAP: the first {first:.2f} s, then median {statistics.median(others):.2f} s, "
    )
    sys.stdout.write(f"at most {max(others):.2f} s of {len(others)}\n")


if __name__ == "__main__":
    main()
