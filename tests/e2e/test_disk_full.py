"""A disk that is really full: under the journal, under index and quarantine, under both. Needs root, to mount tmpfs."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.smtp import Mail, send_all
from tests.support.tap import Tap, wait_for

SMALL = '[journal]\nreserve = "0B"\nsegment_size = "1MiB"\n'


@pytest.fixture
def small_disk() -> Iterator[Callable[[Path], Path]]:
    """Mounts 16 MB of tmpfs on a directory."""
    mounted: list[Path] = []

    def mount(path: Path) -> Path:
        path.mkdir(parents=True, exist_ok=True)
        if os.geteuid() != 0:
            pytest.skip("not root: a full disk was left untested")
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", path], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("tmpfs cannot be mounted here: a full disk was left untested")
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", "-l", path], check=True)


def fill(disk: Path) -> Path:
    """Leave not a byte."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue
    return filler


def free(tap: Tap, filler: Path) -> None:
    """Give the space back, and wait until the proxy has seen it: it looks every second."""
    filler.unlink()
    wait_for(lambda: tap.status("proxy")["delivery"]["journal"]["free_bytes"] > 1_000_000, "the proxy to see it")


def batch(name: str, count: int = 10, size: int = 1000) -> list[Mail]:
    body = b"x" * 70 + b"\r\n"
    return [Mail(b"Subject: %s %d\r\n\r\n%b" % (name.encode(), n, body * (size // 72))) for n in range(count)]


def send(tap: Tap, mails: list[Mail]) -> None:
    replies = asyncio.run(send_all(tap.smtp_port, mails))
    assert all(reply.startswith(b"250") for reply in replies), replies


def filed(tap: Tap) -> Counter[str]:
    return Counter(row["sha256"] for row in tap.exported())


def assert_forwarded_once(handler: Any, mails: list[Mail]) -> None:
    assert Counter(row["sha256"] for row in handler.accepted()) == Counter(mail.wire_sha256 for mail in mails)


def test_under_the_journal(make_tap: Any, handler: Any, tmp_path: Path, small_disk: Callable[[Path], Path]) -> None:
    disk = small_disk(tmp_path / "small")
    tap = make_tap(extra=f'{SMALL}dir = "{disk}/journal"\n')
    tap.start("proxy")
    before, meanwhile, after = batch("before"), batch("meanwhile", 8, 400_000), batch("after")
    send(tap, before)
    filler = fill(disk)
    send(tap, meanwhile)
    untapped = tap.status("proxy")["delivery"]["untapped"]
    assert 0 < untapped <= len(meanwhile), "what no longer fits the segment goes on without a record"
    free(tap, filler)
    send(tap, after)
    assert tap.status("proxy")["delivery"]["untapped"] == untapped
    assert_forwarded_once(handler, [*before, *meanwhile, *after])
    tap.start("filer")
    expected = len(before) + len(meanwhile) + len(after) - untapped
    wait_for(lambda: tap.status("filer")["filed"] == expected, "the filer to catch up")
    found = filed(tap)
    assert found.total() == expected
    assert {mail.sha256 for mail in [*before, *after]} <= found.keys()


def test_a_journal_that_must_not_fail(
    make_tap: Any, handler: Any, tmp_path: Path, small_disk: Callable[[Path], Path]
) -> None:
    disk = small_disk(tmp_path / "small")
    tap = make_tap(extra=f'{SMALL}dir = "{disk}/journal"\non_failure = "defer"\n')
    tap.start("proxy")
    filler = fill(disk)
    mails = batch("deferred", 6, 400_000)
    replies = asyncio.run(send_all(tap.smtp_port, mails))
    taken = [mail for mail, reply in zip(mails, replies, strict=True) if reply.startswith(b"250")]
    assert {reply[:3] for reply in replies} == {b"250", b"452"}
    assert_forwarded_once(handler, taken)
    free(tap, filler)
    send(tap, [mail for mail in mails if mail not in taken])
    assert_forwarded_once(handler, mails)


def test_under_index_and_quarantine(
    make_tap: Any, handler: Any, tmp_path: Path, small_disk: Callable[[Path], Path]
) -> None:
    disk = small_disk(tmp_path / "tap0" / "var")
    tap = make_tap(extra=f'{SMALL}dir = "{tmp_path}/journal"\n')
    tap.start("proxy", "filer")
    before, meanwhile = batch("before"), batch("meanwhile", 60, 20_000)
    send(tap, before)
    wait_for(lambda: tap.status("filer").get("filed") == len(before), "the first to be filed")
    filler = fill(disk)
    send(tap, meanwhile)
    assert_forwarded_once(handler, [*before, *meanwhile])
    wait_for(lambda: bool(tap.status("filer").get("last_error")), "the filer to find the disk full")
    filler.unlink()
    everything = [*before, *meanwhile]
    wait_for(lambda: tap.status("filer").get("filed") == len(everything), "the filer to catch up")
    assert filed(tap) == Counter(mail.sha256 for mail in everything)


def test_under_everything(make_tap: Any, handler: Any, tmp_path: Path, small_disk: Callable[[Path], Path]) -> None:
    disk = small_disk(tmp_path / "tap0" / "var")
    tap = make_tap(extra=SMALL)
    tap.start("proxy", "filer")
    before, meanwhile, after = batch("before"), batch("meanwhile", 6, 400_000), batch("after")
    send(tap, before)
    filler = fill(disk)
    send(tap, meanwhile)
    untapped = tap.status("proxy")["delivery"]["untapped"]
    assert untapped
    tap.kill("proxy")
    tap.kill("filer")
    filler.unlink()
    tap.start("proxy", "filer")
    send(tap, after)
    expected = len(before) + len(meanwhile) + len(after) - untapped
    wait_for(lambda: filed(tap).total() >= expected, "the filer to catch up")
    found = filed(tap)
    assert found.total() == expected
    assert set(found.values()) == {1}
    assert {row["sha256"] for row in handler.accepted()} == {m.wire_sha256 for m in [*before, *meanwhile, *after]}
