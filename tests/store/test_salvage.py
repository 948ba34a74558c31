"""Salvage: after an index was lost, restored or rescued in part, it leads again to all that lies in the segments."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.exc import DatabaseError

from proxy.journal.files import Files
from proxy.journal.ids import IdSource, new_id, time_ns
from proxy.journal.records import Entry, Fate, Mark, unstuffed
from store.accounts import Accounts
from store.filing import BatchFiler
from store.imap.columns import DELETED
from store.imap.roles import FlagChange
from store.index import IndexUnusable
from store.lock import Locked, filer_lock
from store.lookup import find
from store.mailboxes import Mailboxes
from store.outcomes import Outcomes
from store.quarantine import Quarantine
from store.salvage import Salvaged, salvage_now
from store.segments import FIRST_FRAME, FrameHeader, Gap, walk
from store.settings import DAY_S, StoreSettings
from store.uidvalidity import Mirror
from tests.support.store import (
    bounce,
    check_books,
    contents,
    file_all,
    filing,
    filing_loop,
    lasting_workers,
    make_entry,
    run_until_idle,
    settings_for,
)

HARD = "Bounces/Hard"


class Died(BaseException):
    """What stands for a SIGKILL here: nothing handles it."""


class Deadly(Files):
    """Dies at a crash point."""

    def __init__(self, name: str) -> None:
        self._name = name

    def point(self, name: str) -> None:
        if name == self._name:
            raise Died


def some(count: int, *, rcpts: int = 1, days_old: int = 0) -> list[Entry]:
    received_ns = time.time_ns() - days_old * DAY_S * 10**9
    ids = IdSource()
    return [
        make_entry(bounce(b"u%d@example.org" % n), ident=ids.next(received_ns), received_ns=received_ns, rcpts=rcpts)
        for n in range(count)
    ]


def originals(entries: Iterable[Entry]) -> dict[str, bytes]:
    return {entry.id: unstuffed(entry.wire) for entry in entries}


def opened(settings: StoreSettings) -> Quarantine:
    return Quarantine.open(settings)


def filled(settings: StoreSettings, *entries: Entry) -> None:
    quarantine = opened(settings)
    file_all(quarantine, *entries)
    if not Accounts(quarantine.index).list():
        Accounts(quarantine.index).add("ann", "x", "admin")
    quarantine.close()


def lose_index(settings: StoreSettings) -> None:
    for file in settings.state_dir.glob("index.db*"):
        file.unlink()


def execute(settings: StoreSettings, *statements: str) -> None:
    with sqlite3.connect(settings.state_dir / "index.db") as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def run(quarantine: Quarantine, **options: object) -> list[Salvaged]:
    return list(salvage_now(quarantine, lasting_workers(), **options))  # type: ignore[arg-type]


def salvaged(settings: StoreSettings, **options: object) -> dict[str, bytes]:
    """Salvage, check the books, and what is there afterwards."""
    quarantine = opened(settings)
    run(quarantine, **options)
    check_books(quarantine)
    assert run(quarantine, **options) == []
    there = contents(quarantine)
    quarantine.close()
    return there


def after_a_pass(settings: StoreSettings) -> dict[str, bytes]:
    """What is there when expiry has been over it."""
    loop = filing_loop(settings)
    loop.request_expiry(force=True)
    run_until_idle(loop)
    there = contents(loop.quarantine)
    loop.close()
    return there


def paths(settings: StoreSettings) -> set[Path]:
    return set((settings.state_dir / "quarantine").rglob("*.seg"))


def flag(settings: StoreSettings, *uids: int) -> None:
    quarantine = opened(settings)
    Mailboxes(quarantine).store(HARD, "ann", list(uids), FlagChange(flagged=True))
    quarantine.close()


def test_an_id_tells_its_time() -> None:
    now_ns = time.time_ns()
    assert 0 <= now_ns - time_ns(new_id(now_ns)) < 1_000_000_000
    with pytest.raises(ValueError, match="substring"):
        time_ns("not an id")


def test_a_lost_index(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    quarantine = opened(settings)
    rejected = Mark("x", 2, (0, 1), Fate.REJECTED, 550, "5.7.1 no\tmore", "192.0.2.9:25")
    refused = make_entry(b"From: a@b.example\r\n\r\nhello\r\n", mail_arg='<"ü >"@b.example> SIZE=1'.encode())
    entries = [*some(3, rcpts=2), refused]
    filer = BatchFiler(quarantine)
    made = [filing(settings, e, Outcomes(2, 550).after(rejected)) for e in entries[:3]]
    filer.file([*made, filing(settings, refused, Outcomes(1, refused="554 5.7.0 smuggled"))])
    filer.close()
    before = {entry.id: find(quarantine, entry.id) for entry in entries}
    old = {path: path.read_bytes() for path in paths(settings)}
    quarantine.close()
    lose_index(settings)

    quarantine = opened(settings)
    assert sum(found.entered for found in run(quarantine, dry_run=True)) == 4
    assert contents(quarantine) == {}
    assert not any(found.damaged for found in run(quarantine))
    assert contents(quarantine) == originals(entries)
    assert {path: path.read_bytes() for path in paths(settings)} == old  # nothing is written but the index
    check_books(quarantine)
    for ident, was in before.items():
        now = find(quarantine, ident)
        for name in ("sha256", "kind", "category", "reason", "confidence", "envelope_from", "envelope_to", "legacy"):
            assert now.facts[name] == was.facts[name], name
        assert now.facts["fate"] == "unknown"
        assert [folder for folder, *_ in now.entries] == [folder for folder, *_ in was.entries]
    assert run(quarantine) == []
    quarantine.close()


def test_rules_and_retention_of_today_shorten_no_life(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    old = some(1, days_old=100)
    quarantine = opened(settings)
    made = filing(settings, old[0])
    asked = made.prepared.verdict.replace(b'"kind":"bounce"', b'"kind":"unsubscribe"')
    prepared = replace(made.prepared, folder="Unsubscribes", kind="unsubscribe", verdict=asked)
    filer = BatchFiler(quarantine)
    filer.file([replace(made, prepared=prepared)])
    filer.close()
    quarantine.close()
    lose_index(settings)
    assert salvaged(settings) == originals(old)
    assert after_a_pass(settings) == originals(old)


def test_a_restored_index_brings_back_what_came_later_and_nothing_else(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    early, late = some(4), some(3)
    filled(settings, *early)
    quarantine = opened(settings)
    filer = BatchFiler(quarantine)
    more = some(1)
    filer.file([filing(settings, more[0])])
    Mailboxes(quarantine).store(HARD, "ann", [1], FlagChange(set_bits=DELETED))
    assert Mailboxes(quarantine).expunge(HARD, "ann") == [1]
    Mirror(quarantine.index, tmp_path).write()
    shutil.copy(tmp_path / "index.db", tmp_path / "backup")
    shutil.copy(tmp_path / "index.db-wal", tmp_path / "backup-wal")
    filer.file([filing(settings, entry) for entry in late])  # into the segment of `more`
    Mirror(quarantine.index, tmp_path).write()
    filer.close()
    quarantine.close()
    lose_index(settings)
    shutil.copy(tmp_path / "backup", tmp_path / "index.db")
    shutil.copy(tmp_path / "backup-wal", tmp_path / "index.db-wal")
    assert salvaged(settings) == originals([*early[1:], *more, *late])
    quarantine = opened(settings)
    Mailboxes(quarantine).store(HARD, "ann", [4], FlagChange(set_bits=DELETED))
    assert Mailboxes(quarantine).expunge(HARD, "ann") == [4]
    quarantine.close()
    assert salvaged(settings) == originals([*early[1:3], *more, *late])  # what was expunged since stays away


def test_without_a_loss_nothing_comes_back(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    entries = some(4)
    filled(settings, *entries)
    quarantine = opened(settings)
    Mailboxes(quarantine).store(HARD, "ann", [1, 2], FlagChange(set_bits=DELETED))
    assert Mailboxes(quarantine).expunge(HARD, "ann") == [1, 2]
    quarantine.close()
    left = originals(entries[2:])
    assert salvaged(settings) == left
    assert salvaged(settings, everything=True) == left


def test_rows_that_lead_nowhere_lead_to_the_frame_again(tmp_path: Path) -> None:
    """A backup older than a carry, or an index rescued without its table of segments."""
    settings = settings_for(tmp_path)
    entries = some(8)
    filled(settings, *entries)
    flag(settings, 2)
    execute(settings, "PRAGMA foreign_keys = off", "DELETE FROM segments")
    quarantine = opened(settings)
    run(quarantine, everything=True)
    check_books(quarantine)
    assert contents(quarantine) == originals(entries)
    ((_, uid, flagged, _),) = find(quarantine, entries[1].id).entries
    assert (uid, flagged) == (2, True)
    quarantine.close()
    assert after_a_pass(settings) == originals(entries)


def test_a_backup_from_before_a_carry(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    old = some(8, days_old=40)
    filled(settings, *old)
    flag(settings, 2)
    execute(settings, "PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(tmp_path / "index.db", tmp_path / "backup")
    assert after_a_pass(settings) == originals([old[1]])
    lose_index(settings)
    shutil.copy(tmp_path / "backup", tmp_path / "index.db")
    quarantine = opened(settings)
    run(quarantine, everything=True)
    check_books(quarantine)
    quarantine.close()
    assert after_a_pass(settings) == originals([old[1]])


@pytest.mark.parametrize("table", ["entries", "messages"])
def test_an_index_rescued_in_part(tmp_path: Path, table: str) -> None:
    settings = settings_for(tmp_path)
    entries = some(20)
    filled(settings, *entries)
    lost = "DELETE FROM entries WHERE message_pk > 5", "DELETE FROM recipients WHERE message_pk > 5"
    rest = ("DELETE FROM messages WHERE pk > 5",) if table == "messages" else ()
    count = "UPDATE folders SET messages = (SELECT count(*) FROM entries WHERE folder_pk = folders.pk)"
    execute(settings, "PRAGMA foreign_keys = off", *lost, *rest, count)
    if (
        table == "entries"
    ):  # as many messages as are counted: only a look at everything finds those that no folder shows
        execute(settings, "UPDATE segments SET live_messages = live_messages + 1")
    assert salvaged(settings, everything=True) == originals(entries)


@pytest.mark.parametrize("flagged", [1, 7])
def test_what_was_held_is_held_again(tmp_path: Path, flagged: int) -> None:
    """One of eight is carried to a file for what is held; seven of eight stay where they are."""
    settings = settings_for(tmp_path)
    old = some(8, days_old=40)
    filled(settings, *old)
    flag(settings, *range(1, flagged + 1))
    kept = originals(old[:flagged])
    assert after_a_pass(settings) == kept
    for _ in range(2):
        lose_index(settings)
        quarantine = opened(settings)
        run(quarantine)
        quarantine.close()
        assert after_a_pass(settings).items() >= kept.items()


def test_damage_costs_what_is_damaged(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    entries = some(6)
    filled(settings, *entries)
    (file,) = paths(settings)
    data = bytearray(file.read_bytes())
    frames = [frame for frame in walk(file) if isinstance(frame, FrameHeader)]
    data[frames[1].offset + frames[1].size_bytes - 5] ^= 1  # in what is stored
    data[frames[3].offset + 1] ^= 1  # in a header
    file.write_bytes(data + data[frames[5].offset :] + b"torn")  # one frame twice
    lose_index(settings)
    quarantine = opened(settings)
    (found,) = run(quarantine)
    assert (found.missing, found.entered, found.unreadable) == (5, 4, 1)
    assert (found.gaps_bytes, found.tail_bytes) == (frames[3].size_bytes, 4)
    assert contents(quarantine) == originals([entries[0], entries[2], *entries[4:]])
    quarantine.close()


def test_what_looks_like_frames_costs_no_time(tmp_path: Path) -> None:
    """Mail may hold headers of frames, each of which seems to fill the file."""
    file = tmp_path / "x.seg"
    count = 20_000
    fake = b"".join(
        struct.pack("<4sBIIII26sI", b"BTF1", 0, 55 * (count - n) - 55 + 8, 0, 0, 0, b"A" * 26, 0) for n in range(count)
    )
    file.write_bytes(b"x" * FIRST_FRAME + b"broken" + fake + b"12345678" + b"BTF1" * 1_000_000)
    began = time.process_time()
    assert [type(found) for found in walk(file)] == [Gap]
    assert time.process_time() - began < 20  # unbounded it takes minutes


def test_one_bad_file_stops_nothing(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    entries = some(3)
    filled(settings, *entries)
    (file,) = paths(settings)
    (file.parent / "bounces_hard-A.seg").mkdir()
    (file.parent.parent / "2026-13-45").mkdir()
    shutil.copy(file, file.parent.parent / "2026-13-45" / "bounces_hard-B.seg")
    (file.parent.parent / "saved-by-me").mkdir()
    copy = file.parent.parent / "saved-by-me" / file.name
    copy.write_bytes(file.read_bytes())
    lose_index(settings)
    quarantine = opened(settings)
    good, bad, no_day = run(quarantine)
    assert bad.error
    assert no_day.error
    assert (good.entered, good.damaged) == (3, False)
    assert contents(quarantine) == originals(entries)
    quarantine.close()
    assert after_a_pass(settings) == originals(entries)
    assert copy.exists()


@pytest.mark.parametrize("point", ["adopted", "salvaged"])
def test_it_dies_and_is_run_again(tmp_path: Path, point: str) -> None:
    settings = settings_for(tmp_path)
    entries = some(5)
    filled(settings, *entries)
    lose_index(settings)
    quarantine = opened(settings)
    with pytest.raises(Died):
        run(quarantine, files=Deadly(point))
    quarantine.close()
    assert salvaged(settings) == originals(entries)


def test_it_leaves_a_running_filer_the_reserve_and_a_damaged_index_alone(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    filled(settings, *some(1))
    lose_index(settings)
    with filer_lock(tmp_path), pytest.raises(Locked):
        run(opened(settings))
    with pytest.raises(OSError, match="reserve"):
        run(opened(settings_for(tmp_path, reserve_bytes=1 << 60)))
    execute(settings, "PRAGMA wal_checkpoint(TRUNCATE)")
    with (tmp_path / "index.db").open("r+b") as index:
        index.seek(8192)
        index.write(os.urandom(4096))
    with pytest.raises((IndexUnusable, DatabaseError)):
        run(opened(settings))
