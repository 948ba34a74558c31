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


def test_a_reserve_that_is_not_there_stops_filing_not_forwarding(make_tap: Any, handler: Any) -> None:
    tap = make_tap(extra='[journal]\nreserve = "100TB"\non_failure = "forward"\n')
    mails = batch("full")
    tap.start("proxy", "filer")
    replies = asyncio.run(send_all(tap.smtp_port, mails))
    assert all(reply.startswith(b"250") for reply in replies)
    assert len(handler.accepted()) == len(mails)
    assert tap.status("proxy")["delivery"]["untapped"] == len(mails)
    assert tap.exported() == []
