"""UIDVALIDITY after a restore, a rebuild, a lost mirror; and the index's schema, old, new and unknown."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from store.expiry import Expiry
from store.filing import BatchFiler
from store.index import Index, IndexUnusable
from store.mailboxes import Mailboxes
from store.migrations import upgrade, upgrade_index
from store.quarantine import Quarantine
from store.schema import metadata
from store.uidvalidity import mirror_path
from tests.support.store import file_all, filing_loop, journal, make_entry, run_until_idle, settings_for

HARD = "Bounces/Hard"


def counters(path: Path) -> tuple[int, int]:
    quarantine = Quarantine.open(settings_for(path))
    folder = Mailboxes(quarantine).folder(HARD)
    quarantine.close()
    return folder.uidvalidity, folder.uidnext


async def fill(path: Path, count: int) -> None:
    await journal(path / "journal", [make_entry() for _ in range(count)])
    loop = filing_loop(settings_for(path))
    run_until_idle(loop)
    loop.close()


async def test_a_restored_index_gets_a_new_one(tmp_path: Path) -> None:
    await fill(tmp_path, 2)
    before = counters(tmp_path)
    assert before[1] == 3
    shutil.copy(tmp_path / "index.db", tmp_path / "backup")
    await fill(tmp_path, 2)
    assert counters(tmp_path) == (before[0], 5)
    for name in ("index.db", "index.db-wal", "index.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "backup", tmp_path / "index.db")
    valid, _ = counters(tmp_path)
    assert valid > before[0]
    assert counters(tmp_path)[0] == valid  # once
    await fill(tmp_path, 1)
    assert counters(tmp_path)[0] == valid


async def test_a_rebuilt_index_goes_on_above(tmp_path: Path) -> None:
    future = int(time.time()) + 10**6
    mirror_path(tmp_path).write_text(f'{{"{HARD}": [{future}, 77]}}')
    assert counters(tmp_path) == (future + 1, 1)


@pytest.mark.parametrize("text", ["", "nonsense", "[1]", '{"INBOX": 3}', '{"INBOX": [1, "x"]}'])
def test_a_mirror_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    before = counters(tmp_path)
    mirror_path(tmp_path).write_text(text)
    assert counters(tmp_path) == before


def test_the_migrations_make_the_schema(tmp_path: Path) -> None:
    upgrade(f"sqlite:///{tmp_path}/a.db")
    upgrade(f"sqlite:///{tmp_path}/a.db")
    made, wanted = (sa.create_engine(f"sqlite:///{tmp_path}/{name}.db") for name in "ab")
    metadata.create_all(wanted)

    def described(engine: sa.Engine) -> dict[str, object]:
        inspected = sa.inspect(engine)
        return {
            table: (
                [(c["name"], str(c["type"]), c["nullable"]) for c in inspected.get_columns(table)],
                inspected.get_pk_constraint(table)["constrained_columns"],
                sorted((i["name"] or "", tuple(i["column_names"])) for i in inspected.get_indexes(table)),
            )
            for table in metadata.tables
        }

    assert described(made) == described(wanted)
    made.dispose()
    wanted.dispose()


def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    upgrade(url)
    index = Index(url)
    with index.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(IndexUnusable, match="newer"):
        upgrade_index(index)
    index.close()


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "sqlite:////proc/nowhere/index.db"])
def test_an_unusable_index(url: str) -> None:
    with pytest.raises((IndexUnusable, sa.exc.NoSuchModuleError)):
        Index(url)


def test_expired_rows_use_their_index(tmp_path: Path) -> None:
    quarantine = Quarantine.open(settings_for(tmp_path))
    file_all(quarantine, make_entry(received_ns=1))
    plans = []

    def explain(connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT entries.uid"):
            raw = connection.connection.cursor()
            plans.append(str(raw.execute("EXPLAIN QUERY PLAN " + statement, parameters).fetchall()))

    sa.event.listen(quarantine.index.engine, "before_cursor_execute", explain)
    filer = BatchFiler(quarantine)
    assert sum(Expiry(quarantine, filer).steps()) == 1
    filer.close()
    assert plans
    assert "ix_entries_expiry" in plans[0]
    quarantine.close()


@pytest.mark.parametrize("mirror", ["with", "without"])
async def test_a_lost_index_costs_no_segment(tmp_path: Path, mirror: str) -> None:
    await fill(tmp_path, 2)
    segments = set((tmp_path / "quarantine").rglob("*.seg"))
    assert segments
    for name in ("index.db", "index.db-wal", "index.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    if mirror == "without":
        mirror_path(tmp_path).unlink()
    await fill(tmp_path, 1)  # an expiry pass comes with it
    assert segments < set((tmp_path / "quarantine").rglob("*.seg"))


async def test_an_index_restored_from_a_backup_costs_no_segment(tmp_path: Path) -> None:
    await fill(tmp_path, 2)
    shutil.copy(tmp_path / "index.db", tmp_path / "backup")
    await fill(tmp_path, 2)
    segments = set((tmp_path / "quarantine").rglob("*.seg"))
    shutil.copy(tmp_path / "backup", tmp_path / "index.db")
    await fill(tmp_path, 1)
    assert segments < set((tmp_path / "quarantine").rglob("*.seg"))
