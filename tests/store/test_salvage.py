"""Salvage: after an index was lost, restored, or damaged, what lies in the segments is filed again, once and whole."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from proxy.journal.files import Files
from proxy.journal.ids import new_id, time_ns
from proxy.journal.records import Entry, Fate, Mark, unstuffed
from store.accounts import Accounts
from store.filing import BatchFiler
from store.imap.columns import DELETED
from store.imap.roles import FlagChange
from store.lock import Locked, filer_lock
from store.lookup import find
from store.mailboxes import Mailboxes
from store.outcomes import Outcomes, from_legacy
from store.quarantine import Quarantine
from store.salvage import Salvaged, salvage_now
from store.segments import walk
from store.settings import DAY_S, StoreSettings
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
    return [
        make_entry(bounce(b"u%d@example.org" % n), ident=new_id(received_ns), received_ns=received_ns, rcpts=rcpts)
        for n in range(count)
    ]


def originals(entries: Iterable[Entry]) -> dict[str, bytes]:
    return {entry.id: unstuffed(entry.wire) for entry in entries}


def opened(settings: StoreSettings) -> Quarantine:
    return Quarantine.open(settings)


def lose_index(settings: StoreSettings) -> None:
    for file in settings.state_dir.glob("index.db*"):
        file.unlink()


def run(quarantine: Quarantine, **options: object) -> list[Salvaged]:
    return list(salvage_now(quarantine, lasting_workers(), **options))  # type: ignore[arg-type]


def paths(settings: StoreSettings) -> set[Path]:
    return set((settings.state_dir / "quarantine").rglob("*.seg"))


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
    old = paths(settings)
    quarantine.close()
    lose_index(settings)

    quarantine = opened(settings)
    assert sum(found.unknown for found in run(quarantine, dry_run=True)) == 4
    assert contents(quarantine) == {}
    assert all(found.removed and not found.unreadable and not found.torn_bytes for found in run(quarantine))
    assert contents(quarantine) == originals(entries)
    assert not old & paths(settings)
    check_books(quarantine)
    for ident, was in before.items():
        now = find(quarantine, ident)
        for name in ("sha256", "kind", "category", "reason", "envelope_from", "envelope_to", "fate", "legacy"):
            assert now.facts[name] == was.facts[name], name
        assert [(folder, words) for folder, _, _, words in now.entries] == [(f, w) for f, _, _, w in was.entries]
    assert run(quarantine) == []
    quarantine.close()


def test_a_restored_index_brings_back_what_came_later_and_nothing_else(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    quarantine = opened(settings)
    Accounts(quarantine.index).add("ann", "x", "admin")
    filer, early, late = BatchFiler(quarantine), some(4), some(3)
    filer.file([filing(settings, entry) for entry in early])
    Mailboxes(quarantine).store(HARD, "ann", [1], FlagChange(set_bits=DELETED))
    assert Mailboxes(quarantine).expunge(HARD, "ann") == [1]
    shutil.copytree(tmp_path, tmp_path / "backup", ignore=shutil.ignore_patterns("quarantine", "backup"))
    filer.file([filing(settings, entry) for entry in late])  # into the same segment
    filer.close()
    quarantine.close()
    lose_index(settings)
    shutil.copytree(tmp_path / "backup", tmp_path, dirs_exist_ok=True)

    quarantine = opened(settings)
    (found,) = run(quarantine)
    assert (found.unknown, found.removed) == (3, False)
    assert contents(quarantine) == originals([*early[1:], *late])
    check_books(quarantine)
    assert run(quarantine) == []
    quarantine.close()


def test_what_was_held_is_held_again(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    old = some(8, days_old=40)
    quarantine = opened(settings)
    file_all(quarantine, *old)
    Accounts(quarantine.index).add("ann", "x", "admin")
    Mailboxes(quarantine).store(HARD, "ann", [2], FlagChange(flagged=True))
    quarantine.close()
    loop = filing_loop(settings)
    loop.request_expiry(force=True)
    run_until_idle(loop)
    assert contents(loop.quarantine).keys() == {old[1].id}
    loop.close()
    lose_index(settings)
    quarantine = opened(settings)
    run(quarantine)
    ((_, _, flagged, _),) = find(quarantine, old[1].id).entries
    assert flagged
    quarantine.close()


def test_damage_costs_what_is_damaged(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    quarantine = opened(settings)
    entries = some(3)
    file_all(quarantine, *entries)
    quarantine.close()
    (file,) = paths(settings)
    data = bytearray(file.read_bytes())
    second = list(walk(file))[1]
    data[second.offset + second.size_bytes - 5] ^= 1
    file.write_bytes(data + b"torn")
    lose_index(settings)
    quarantine = opened(settings)
    (found,) = run(quarantine)
    assert (found.unknown, found.unreadable, found.torn_bytes, found.removed) == (3, 1, 4, False)
    assert contents(quarantine) == originals([entries[0], entries[2]])
    assert file.exists()
    assert [again.unreadable for again in run(quarantine)] == [1]
    quarantine.close()


@pytest.mark.parametrize("point", ["segment_appended", "segment_synced", "index_committed", "salvaged"])
def test_it_dies_and_is_run_again(tmp_path: Path, point: str) -> None:
    settings = settings_for(tmp_path)
    quarantine = opened(settings)
    entries = some(5)
    file_all(quarantine, *entries)
    quarantine.close()
    lose_index(settings)
    quarantine = opened(settings)
    with pytest.raises(Died):
        run(quarantine, files=Deadly(point))
    run(quarantine)
    assert contents(quarantine) == originals(entries)
    check_books(quarantine)
    quarantine.close()


def test_it_leaves_a_running_filer_and_the_reserve_alone(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    quarantine = opened(settings)
    file_all(quarantine, *some(1))
    quarantine.close()
    lose_index(settings)
    with filer_lock(tmp_path), pytest.raises(Locked):
        run(opened(settings))
    with pytest.raises(OSError, match="reserve"):
        run(opened(settings_for(tmp_path, reserve_bytes=1 << 60)))
    assert len(paths(settings)) == 1


@pytest.mark.parametrize("legacy", ["pending", "250 2.0.0 taken", "550 5.1.1 no", "550", "refused by the tap: 554 no"])
def test_a_reply_is_read_as_it_was_shown(legacy: str) -> None:
    assert from_legacy(legacy, 2, 1).legacy == legacy
