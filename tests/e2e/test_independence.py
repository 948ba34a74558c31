"""Nothing behind the journal can stop forwarding; what waited is filed exactly once when it returns (law 1)."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from typing import Any

import pytest

from tests.support.smtp import Mail, send_all
from tests.support.tap import Tap, wait_for


def batch(name: str, count: int = 30) -> list[Mail]:
    return [Mail(b"Subject: %s %d\r\n\r\nbody\r\n" % (name.encode(), n)) for n in range(count)]


def send(tap: Tap, mails: list[Mail]) -> None:
    replies = asyncio.run(send_all(tap.smtp_port, mails))
    assert all(reply.startswith(b"250") for reply in replies)


def assert_filed_once(tap: Tap, mails: list[Mail]) -> None:
    wait_for(lambda: len(tap.exported()) >= len(mails), "the filer to catch up", 120)
    assert Counter(row["sha256"] for row in tap.exported()) == Counter(mail.sha256 for mail in mails)


@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_filer_and_imap_away(tap: Tap, handler: Any, fault: str) -> None:
    tap.start("proxy", "filer", "imap")
    before, meanwhile, after = batch("before"), batch("meanwhile"), batch("after")
    send(tap, before)
    for part in ("filer", "imap"):
        if fault == "killed":
            tap.kill(part)
        else:
            tap.send_signal(part, signal.SIGSTOP)
    send(tap, meanwhile)
    assert len(handler.accepted()) == len(before) + len(meanwhile)
    if fault == "killed":
        tap.start("filer", "imap")
    else:
        for part in ("filer", "imap"):
            tap.send_signal(part, signal.SIGCONT)
    send(tap, after)
    assert_filed_once(tap, [*before, *meanwhile, *after])
    assert len(handler.accepted()) == len(before) + len(meanwhile) + len(after)


def test_filer_starts_later_than_the_mail(tap: Tap, handler: Any) -> None:
    mails = batch("early")
    tap.start("proxy")
    send(tap, mails)
    tap.start("filer")
    assert_filed_once(tap, mails)
    assert len(handler.accepted()) == len(mails)


def test_below_the_reserve_the_filer_waits_and_the_journal_takes_all(make_tap: Any, handler: Any) -> None:
    tap = make_tap(extra='[journal]\nreserve = "100TB"\n')
    mails = batch("full")
    tap.start("proxy", "filer")
    send(tap, mails)
    assert len(handler.accepted()) == len(mails)
    assert tap.status("proxy")["delivery"]["untapped"] == 0
    wait_for(lambda: tap.status("filer")["waiting_for_disk"], "the filer to wait")
    assert tap.exported() == []
    tap.stop()
    with_room = make_tap(extra='[journal]\nreserve = "10MB"\n', directory=tap.directory)
    with_room.start("filer")
    assert_filed_once(with_room, mails)
