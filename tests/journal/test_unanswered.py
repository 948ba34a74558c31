"""What was never answered is remembered for five days, by all workers, in a file that stays small."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from proxy.journal import unanswered
from proxy.journal.files import Files
from proxy.journal.records import Fate, Mark
from proxy.journal.unanswered import Unanswered, UnansweredHit
from proxy.journal.writer import JournalWriter
from tests.support.journal import (
    answered,
    make_entry,
    settings_for,
)


async def test_unanswered_is_remembered_with_the_recorded_refusal(tmp_path: Path) -> None:
    writer = await JournalWriter.open(settings_for(tmp_path))
    plain, refused, told = make_entry(), make_entry(rcpts=2), make_entry()
    for entry in (plain, refused, told):
        await writer.append_entry(entry)
    writer.append_mark(Mark(refused.id, 1, (0, 1), Fate.REJECTED, 550, "5.1.1 no such user"))
    await writer.append_mark(answered(told))
    await writer.close()
    heir = await JournalWriter.open(settings_for(tmp_path))
    assert {entry.id for entry in await heir.adopt_orphans()} == {plain.id, told.id}
    await heir.close()
    last = await JournalWriter.open(settings_for(tmp_path))  # it outlives the stream it came from
    hit = last.was_unanswered(refused.digest)
    assert hit is not None
    assert (hit.id, hit.code, hit.text) == (refused.id, 550, "5.1.1 no such user")
    hit = last.was_unanswered(plain.digest)
    assert hit is not None
    assert (hit.id, hit.code) == (plain.id, 0)
    assert last.was_unanswered(told.digest) is None
    await last.close()


async def test_a_client_that_vanished_counts_as_unanswered(tmp_path: Path) -> None:
    writer = await JournalWriter.open(settings_for(tmp_path))
    entry = make_entry()
    await writer.append_entry(entry)
    await writer.append_mark(Mark(entry.id, 1, answered=0))
    assert writer.was_unanswered(entry.digest) is not None
    other = await JournalWriter.open(settings_for(tmp_path), worker=1)  # another worker knows it too
    assert other.was_unanswered(entry.digest) is not None
    await other.close()
    await writer.close()


async def test_an_answered_resend_is_one_also_where_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next genuine message of these bytes would be taken for a resend, and be lost."""
    writer = await JournalWriter.open(settings_for(tmp_path))
    entry = make_entry()
    await writer.append_entry(entry)
    await writer.append_mark(Mark(entry.id, 1, answered=0))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 7200)
    writer.resend_answered(entry.digest)
    assert writer.was_unanswered(entry.digest) is None
    await writer.close()
    heir = await JournalWriter.open(settings_for(tmp_path))
    assert heir.was_unanswered(entry.digest) is None
    await heir.close()


async def test_unanswered_expires(tmp_path: Path) -> None:
    now = time.time()
    lines = [
        {"digest": bytes([n]).hex() * 32, "id": str(n), "code": 0, "text": "", "at_s": now - n * 86_400}
        for n in range(20)
    ]
    path = tmp_path / "unanswered"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"torn')
    writer = await JournalWriter.open(settings_for(tmp_path))
    assert writer.was_unanswered(bytes([4]) * 32) is not None
    assert writer.was_unanswered(bytes([6]) * 32) is None
    assert len(path.read_text().splitlines()) == 5
    assert unanswered.KEEP_S == 5 * 86_400
    await writer.close()


async def test_unanswered_is_read_on_and_not_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever hangs up before each reply must not make us read the whole file each second."""
    monkeypatch.setattr(unanswered, "_PRUNE_EVERY", 4)
    ours, theirs = Unanswered(Files(), tmp_path), Unanswered(Files(), tmp_path)

    def hit(number: int, code: int = 0, days_old: float = 0.0) -> UnansweredHit:
        return UnansweredHit(bytes([number]) * 32, str(number), code, "", time.time() - days_old * 86_400)

    ours.store([hit(number, days_old=6) for number in range(20)])
    waiting = hit(100)
    ours.remember(waiting)  # not stored yet
    theirs.store([hit(101)])
    ours.refresh()
    theirs.store([hit(102)])  # in the file that ours has rewritten
    for each in (ours, theirs):
        each.refresh()
        assert each.get(bytes([101]) * 32) is not None
        assert each.get(bytes([102]) * 32) is not None
        assert each.get(bytes([3]) * 32) is None
    assert ours.get(waiting.digest) == waiting
    ours.store([waiting])
    ours.store([hit(101, unanswered.ANSWERED)])
    theirs.refresh()
    assert theirs.get(waiting.digest) == waiting
    assert theirs.get(bytes([101]) * 32) is None
    assert len((tmp_path / "unanswered").read_text("ascii").splitlines()) < 12
    seen: list[bytes] = []
    monkeypatch.setattr(unanswered, "_hit", seen.append)
    theirs.refresh()
    assert seen == []
