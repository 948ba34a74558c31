"""`bouncetap run`: parts that die return, a supervisor that dies takes its parts with it in an orderly way."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from bouncetap.config import Config
from bouncetap.supervise import Supervisor
from tests.support.smtp import Mail, send_all
from tests.support.tap import Tap, wait_for

PARTS = ("proxy", "filer", "imap")


def batch(name: str, count: int = 10) -> list[Mail]:
    return [Mail(b"Subject: %s %d\r\n\r\nbody\r\n" % (name.encode(), n)) for n in range(count)]


def send(tap: Tap, mails: list[Mail]) -> None:
    assert all(reply.startswith(b"250") for reply in asyncio.run(send_all(tap.smtp_port, mails)))


def pids(tap: Tap) -> dict[str, int]:
    """Of the parts that answer."""
    return {part: pid for part in PARTS if (pid := tap.status(part).get("pid"))}


def start(tap: Tap) -> dict[str, int]:
    tap.spawn("run")
    wait_for(lambda: len(pids(tap)) == len(PARTS), "all parts to answer")
    return pids(tap)


def gone(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text("ascii", "replace").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def assert_filed_once(tap: Tap, mails: list[Mail]) -> None:
    wait_for(lambda: len(tap.exported()) >= len(mails), "the filer to catch up")
    assert Counter(row["sha256"] for row in tap.exported()) == Counter(mail.sha256 for mail in mails)


def test_parts_that_die_return(tap: Tap, handler: Any) -> None:
    before = start(tap)
    mails = batch("before")
    send(tap, mails)
    for part in ("filer", "imap"):
        os.kill(before[part], signal.SIGKILL)
    mails += (meanwhile := batch("meanwhile"))
    send(tap, meanwhile)
    wait_for(lambda: not set(before.values()) & {pids(tap).get(part) for part in ("filer", "imap")}, "the old to go")
    wait_for(lambda: len(pids(tap)) == len(PARTS), "filer and imap to return")
    assert pids(tap)["proxy"] == before["proxy"], "the proxy is left alone"
    os.kill(before["proxy"], signal.SIGKILL)
    wait_for(lambda: pids(tap).get("proxy") not in {None, before["proxy"]}, "the proxy to return")
    mails += (after := batch("after"))
    send(tap, after)
    assert_filed_once(tap, mails)
    assert {row["sha256"] for row in handler.accepted()} == {mail.wire_sha256 for mail in mails}
    last = pids(tap)
    assert tap.stop() == {"run": 0}
    assert all(gone(pid) for pid in last.values())


def test_a_supervisor_that_is_killed(tap: Tap, handler: Any) -> None:
    before = start(tap)
    mails = batch("before")
    send(tap, mails)
    tap.kill("run")
    wait_for(lambda: all(gone(pid) for pid in before.values()), "the parts to stop")
    assert tap.log("run").count('"stopped"') == len(PARTS), "in an orderly way"
    tap.start("proxy", "filer")
    mails += (after := batch("after"))
    send(tap, after)
    assert_filed_once(tap, mails)
    assert len(handler.accepted()) == len(mails)


class Hurried(Supervisor):
    """Is told to stop in the very moment in which a part is being started."""

    async def _spawn(self, part: str) -> asyncio.subprocess.Process:
        if part == "filer":
            self.stop()
        return await super()._spawn(part)


def test_a_stop_while_a_part_is_being_started(tap: Tap) -> None:
    config: Config = tap.config

    async def run() -> int:
        async with asyncio.timeout(60):
            return await Hurried(config).run()

    assert asyncio.run(run()) == 0
