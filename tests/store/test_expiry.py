"""Expiry: what is past its folder's retention goes and its disk space with it; what is held stays; clocks may lie."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from proxy.journal import Entry
from store.accounts import Accounts
from store.expiry import Clock, Expiry, ExpiryBlocked
from store.filing import BatchFiler
from store.imap.roles import FlagChange
from store.mailboxes import Mailboxes
from store.quarantine import NotThere, Quarantine
from store.schema import expunged, segments
from store.segments import DamagedFrame
from store.settings import DAY_S, Retention
from tests.support.store import bounce, check_books, filing, make_entry, settings_for

HARD, OTHER = "Bounces/Hard", "Replies"
NOW_S = int(time.time())


class Hands:
    """Two clocks that a test moves."""

    def __init__(self) -> None:
        self.wall_s: float = NOW_S
        self.steady_s: float = 1000.0

    def sleep(self, seconds: float) -> None:
        self.wall_s += seconds
        self.steady_s += seconds

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.wall_s, lambda: self.steady_s)


class Store:
    def __init__(self, path: Path) -> None:
        retention = Retention(default_s=10 * DAY_S, by_folder_s={HARD: DAY_S, OTHER: 5 * DAY_S})
        self.path = path
        self.settings = settings_for(path, retention=retention, segment_bytes=20_000)
        self.quarantine = Quarantine.open(self.settings)
        self.filer = BatchFiler(self.quarantine)
        self.mailboxes = Mailboxes(self.quarantine)
        self.hands = Hands()
        self.expiry = Expiry(self.quarantine, self.filer, self.hands.clock)
        Accounts(self.quarantine.index).add("ann", "x", "admin")

    def file(self, count: int, *, days_old: float = 0.0, wire: bytes = b"") -> list[Entry]:
        made = [make_entry(wire or noise(), received_ns=int((NOW_S - days_old * DAY_S) * 1e9)) for _ in range(count)]
        self.filer.file([filing(self.settings, entry) for entry in made])
        return made

    def expire(self, *, force: bool = False) -> int:
        return sum(self.expiry.steps(force=force))

    def disk_bytes(self) -> int:
        return sum(file.stat().st_size for file in (self.path / "quarantine").rglob("*.seg"))

    def close(self) -> None:
        self.filer.close()
        self.quarantine.close()


def noise() -> bytes:
    return bounce() + os.urandom(1000).hex().encode() + b"\r\n"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path)
    yield opened
    opened.close()


def test_old_ones_go_and_the_disk_is_given_back(store: Store) -> None:
    old, new = store.file(40, days_old=2), store.file(10)
    before = store.disk_bytes()
    (due,) = store.expiry.due()
    assert (due.folder, due.messages, due.held) == (HARD, 40, 0)
    assert store.expire() == 40
    assert store.expiry.due() == []
    assert store.disk_bytes() < before * 0.3
    assert store.mailboxes.folder(HARD).messages == 10
    for entry in new:
        assert store.quarantine.original(entry.id)
    with pytest.raises(NotThere):
        store.quarantine.original(old[0].id)
    assert store.expire() == 0


def test_what_is_held_is_carried_over(store: Store) -> None:
    old = store.file(40, days_old=2)
    before = store.disk_bytes()
    store.mailboxes.store(HARD, "ann", [3, 39], FlagChange(flagged=True))
    modseq = store.mailboxes.poll()[HARD]
    shown = dict(store.mailboxes.shown(HARD, [3]))
    assert shown
    assert store.expire() == 38
    assert store.disk_bytes() < before * 0.2
    assert dict(store.mailboxes.shown(HARD, [3])) == shown
    assert store.quarantine.original(old[38].id)
    changes = store.mailboxes.changes(HARD, modseq)
    assert changes is not None
    assert len(changes.expunged) == 38
    store.hands.sleep(3600)
    store.mailboxes.store(HARD, "ann", [3, 39], FlagChange(flagged=False))
    assert store.expire() == 2
    assert store.disk_bytes() == 0
    assert not list((store.path / "quarantine").iterdir())


def test_a_reader_looks_again_when_a_message_is_carried(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    old = store.file(20, days_old=2)
    store.mailboxes.store(HARD, "ann", [5], FlagChange(flagged=True))
    looked_up = store.quarantine._places

    def then_expires(pks: list[int]) -> object:
        monkeypatch.undo()
        places = looked_up(pks)
        assert store.expire() == 19
        return places

    monkeypatch.setattr(store.quarantine, "_places", then_expires)
    assert store.quarantine.original(old[4].id) == old[4].wire


def test_retention_is_the_current_folders(store: Store) -> None:
    (moved,) = store.file(1, days_old=2)
    store.file(20, days_old=2)
    store.mailboxes.move(HARD, "ann", [1], OTHER)
    store.mailboxes.copy(HARD, "ann", [2], OTHER)
    assert store.expire() == 20
    assert store.quarantine.original(moved.id)
    store.hands.sleep(1.5 * DAY_S)
    assert store.expire() == 0
    store.hands.sleep(1.6 * DAY_S)
    assert store.expire() == 2
    assert store.disk_bytes() == 0


def test_many_entries_go_in_small_steps(store: Store) -> None:
    store.file(1200, days_old=2, wire=bounce())
    assert max(store.expiry.steps()) == 500
    assert store.mailboxes.folder(HARD).messages == 0
    with store.quarantine.index.read() as connection:
        assert connection.execute(sa.select(segments)).all() == []


def test_orphans_are_swept(store: Store) -> None:
    orphan = store.path / "quarantine" / "2001-01-01" / "other-X.seg"
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"left by a crash")
    store.file(1)
    store.expire()
    assert not orphan.parent.exists()
    assert store.mailboxes.folder(HARD).messages == 1
    assert store.disk_bytes()


def test_an_orphan_with_mail_that_no_row_knows_stays_for_its_time(store: Store) -> None:
    """An index restored together with the mirror of its UIDVALIDITYs shows by nothing else that it is old."""
    store.file(3)
    (known,) = (store.path / "quarantine").rglob("*.seg")
    copy = known.with_name("bounces_hard-COPY.seg")
    copy.write_bytes(known.read_bytes())  # as a crash leaves it: all of it has been filed elsewhere
    other = Store(store.path / "other")
    other.file(3)
    other.close()
    (unknown,) = (store.path / "other").rglob("*.seg")
    lost = known.with_name("bounces_hard-LOST.seg")
    lost.write_bytes(unknown.read_bytes() + b"torn")
    store.expire()
    assert (known.exists(), copy.exists(), lost.exists()) == (True, False, True)
    store.hands.sleep(3 * DAY_S)
    store.expire(force=True)
    assert (known.exists(), lost.exists()) == (False, False)


def test_a_wall_clock_that_jumps_stops_expiry(store: Store) -> None:
    store.file(5, days_old=0.5)
    assert store.expire() == 0
    store.hands.wall_s += 3 * DAY_S
    with pytest.raises(ExpiryBlocked, match="moved"):
        store.expire()
    assert store.expiry.blocked
    assert store.mailboxes.folder(HARD).messages == 5
    store.hands.wall_s -= 3 * DAY_S  # it was wrong, and is set right
    assert store.expire() == 0
    assert not store.expiry.blocked
    store.hands.wall_s += 3 * DAY_S
    assert store.expire(force=True) == 5
    assert store.expire() == 0


def test_a_long_absence_stops_expiry_until_forced(store: Store) -> None:
    assert store.expire() == 0
    store.file(5)
    for days, blocked in ((1.9, False), (3.0, True)):
        store.hands.sleep(days * DAY_S)
        again = Expiry(store.quarantine, store.filer, store.hands.clock)
        if blocked:
            with pytest.raises(ExpiryBlocked, match="days ago"):
                sum(again.steps())
            sum(again.steps(force=True))
        assert sum(again.steps()) == (0 if blocked else 5)


def test_the_index_shrinks(store: Store) -> None:
    store.file(3000, days_old=2, wire=bounce())
    with store.quarantine.index.engine.connect() as connection:
        before = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    assert store.expire() == 3000
    with store.quarantine.index.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA page_count").scalar_one() < before * 0.6


def test_an_unreadable_message_keeps_nothing_else_on_disk(store: Store) -> None:
    """Neither one that is damaged nor a file that has gone stops a pass."""
    damaged, _, whole = store.file(3, days_old=2)
    store.file(40, days_old=2)
    store.mailboxes.store(HARD, "ann", [1, 3], FlagChange(flagged=True))
    (first,) = {path for path in (store.path / "quarantine").rglob("*.seg") if damaged.id.encode() in path.read_bytes()}
    content = bytearray(first.read_bytes())
    content[content.index(damaged.id.encode()) + 60] ^= 0xFF
    first.write_bytes(content)
    assert store.expire() == 41
    assert store.quarantine.original(whole.id)
    with pytest.raises(DamagedFrame):
        store.quarantine.original(damaged.id)
    first.unlink()
    assert store.expire() == 0
    store.mailboxes.store(HARD, "ann", [1, 3], FlagChange(flagged=False))
    store.hands.sleep(3600)
    assert store.expire() == 2
    assert store.disk_bytes() == 0
    check_books(store.quarantine)


def test_what_analysts_removed_is_given_back_before_its_time(store: Store) -> None:
    new = store.file(40)
    before = store.disk_bytes()
    store.mailboxes.store(HARD, "ann", range(1, 39), FlagChange(set_bits=4))
    assert len(store.mailboxes.expunge(HARD, "ann")) == 38
    store.filer.segments.close()  # as at the end of the day
    assert store.expire() == 0
    assert store.disk_bytes() < before * 0.2
    assert store.quarantine.original(new[39].id)
    with store.quarantine.index.read() as connection:
        (kept,) = {tuple(row) for row in connection.execute(sa.select(segments.c.retention_class, segments.c.day))}
    assert kept == ("bounces_hard", time.strftime("%Y-%m-%d", time.gmtime(NOW_S)))
    check_books(store.quarantine)


def test_what_went_is_not_remembered_for_ever(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.entries.EXPUNGED_KEPT", 3)
    monkeypatch.setattr("store.entries.EXPUNGED_SLACK", 1)
    for _ in range(9):
        store.file(2, days_old=2, wire=bounce())
        assert store.expire() == 2
    with store.quarantine.index.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(expunged)).scalar_one() <= 4
    assert store.mailboxes.changes(HARD, 1) is None


def test_a_locked_index_is_an_error_of_the_index(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.index.SHRINK_MIN_PAGES", 0)
    store.file(300, days_old=2, wire=bounce())
    sum(store.expiry._entries(NOW_S))
    index = store.quarantine.index
    index.engine.dispose()
    monkeypatch.setattr("store.index.BUSY_TIMEOUT_S", 0.05)
    locked = Quarantine.open(store.settings)
    with index.write(), pytest.raises(OperationalError, match="locked"):
        locked.index.shrink()
    assert locked.index.shrink()
    locked.close()
