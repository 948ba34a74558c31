"""Every message arrives at the handler with identical bytes and envelope, and comes back from the quarantine as it was.

Sent are all fixtures, odd envelopes, and a quarter of the labelled messages. All of them, with figures:
BOUNCETAP_WHOLE_CORPUS=1 make test PYTEST_ARGS="-s tests/e2e/test_transparency.py"
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bouncetap.config.for_store import store_settings
from bouncetap.demo.traffic import samples
from store.quarantine import Quarantine
from tests.support.smtp import Mail, crlf, send_all
from tests.support.tap import Tap, wait_for

ENVELOPES = (  # what a return-path domain sees, and what breaks address rewriting
    (b"<>", (b"<bounce+anna=example.org@bounces.example.com>",)),
    (b'<"quoted local"@example.org>', (b'<"a b@c"@bounces.example.com>',)),
    (b"<a@example.org> SIZE=300 BODY=8BITMIME", (b"<x@Bounces.Example.COM>", b"<y%z!w@bounces.example.com>")),
    ("<käse@exämple.org> SMTPUTF8".encode(), ("<rück@bounces.example.com>".encode(),)),
    (b"<> RET=HDRS ENVID=QQ+2B1", (b"<v@bounces.example.com> NOTIFY=NEVER ORCPT=rfc822;Xy+2Bz@example.org",)),
    (b"<=?utf-8?q?a?=@example.org>", (b"<postmaster@bounces.example.com>",)),
    (b"<SRS0=HHH=TT=example.org=user@forwarder.example>", (b"<prvs=0123abc=me@bounces.example.com>",)),
)


def deliver(tap: Tap, mails: list[Mail]) -> list[bytes]:
    return asyncio.run(send_all(tap.smtp_port, mails))


def assert_identical(mails: list[Mail], replies: list[bytes], accepted: list[dict[str, Any]]) -> None:
    refused = [reply for reply in replies if not reply.startswith(b"250")]
    assert not refused
    wanted = Counter((m.wire_sha256, m.mail_arg, m.rcpt_args) for m in mails)
    got = Counter(
        (
            a["sha256"],
            a["mail"].encode("utf-8", "surrogateescape"),
            tuple(r.encode("utf-8", "surrogateescape") for r in a["rcpts"]),
        )
        for a in accepted
    )
    assert got == wanted


def assert_given_back(tap: Tap, mails: list[Mail]) -> None:
    wait_for(lambda: len(tap.exported()) >= len(mails), f"{len(mails)} messages to be filed", 120)
    ids: dict[str, list[str]] = {}
    for row in tap.exported():
        ids.setdefault(row["sha256"], []).append(row["id"])
    assert sum(map(len, ids.values())) == len(mails)
    quarantine = Quarantine.open(store_settings(tap.config))
    try:
        for mail in mails:
            assert quarantine.original(ids[mail.sha256][0]) == mail.raw
    finally:
        quarantine.close()
    shown = tap.cli("message", ids[mails[0].sha256][0], "--raw")
    assert hashlib.sha256(shown.stdout).hexdigest() == mails[0].sha256


def test_fixtures_and_envelopes(tap: Tap, handler: Any) -> None:
    tap.start("proxy", "filer")
    fixtures = [Mail(crlf_end(s.raw), s.mail_arg.encode(), tuple(r.encode() for r in s.rcpt_args)) for s in samples()]
    odd = [Mail(b"Subject: %d\r\n\r\n.\r\n..\r\nend\r\n" % n, *envelope) for n, envelope in enumerate(ENVELOPES)]
    deliver(tap, [Mail(b"Subject: first\r\n\r\nlets the tap learn what the handler offers\r\n")])
    mails = [*fixtures, *odd]
    replies = deliver(tap, mails)
    assert_identical(mails, replies, handler.accepted()[1:])
    wait_for(lambda: len(tap.exported()) == len(mails) + 1, "all to be filed")
    print(f"\n{len(fixtures)} fixtures and {len(odd)} odd envelopes: identical")
    assert_given_back(tap, [Mail(b"Subject: first\r\n\r\nlets the tap learn what the handler offers\r\n"), *mails])


def crlf_end(raw: bytes) -> bytes:
    return raw if not raw or raw.endswith(b"\r\n") else raw + b"\r\n"


def test_what_the_smuggling_policy_refuses_is_kept_as_evidence(tap: Tap, handler: Any) -> None:
    tap.start("proxy", "filer")
    mails = [Mail(crlf_end(sample.raw)) for sample in samples(refused=True)]
    replies = deliver(tap, mails)
    assert all(reply.startswith(b"554 5.6.11") for reply in replies)
    assert handler.accepted() == []
    print(f"\n{len(mails)} fixtures refused: {[sample.name for sample in samples(refused=True)]}")
    assert_given_back(tap, mails)


@pytest.mark.corpus
def test_labelled_messages(tap: Tap, handler: Any, corpus: Path) -> None:
    tap.start("proxy", "filer")
    files = sorted(corpus.iterdir())
    if not os.environ.get("BOUNCETAP_WHOLE_CORPUS"):
        files = files[::4]
    mails = [Mail(crlf(file.read_bytes())) for file in files]
    replies = deliver(tap, mails)
    refused = {n for n, reply in enumerate(replies) if reply.startswith(b"554 5.6.11")}
    taken = [mail for n, mail in enumerate(mails) if n not in refused]
    assert_identical(taken, [r for n, r in enumerate(replies) if n not in refused], handler.accepted())
    print(f"\n{len(taken)} labelled messages identical, {len(refused)} refused: {[files[n].name for n in refused]}")
    assert_given_back(tap, mails)
    assert len(refused) <= len(mails) // 100, [files[n].name for n in refused]
