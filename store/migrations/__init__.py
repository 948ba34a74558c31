"""Brings an index to the schema of `store/schema.py`: Alembic, packaged, run from within.

Safe to call from several processes that start at once: the check takes no lock, and the upgrade holds the write
lock (SQLite) or an advisory lock (PostgreSQL) for as long as it runs.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from store.index import Index, IndexUnusable

ADVISORY_LOCK = 0x626F756E6365  # "bounce"


def config() -> Config:
    """Alembic's configuration, without any file."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return made


def head() -> str:
    """The revision that this version of the program speaks."""
    found = ScriptDirectory.from_config(config()).get_current_head()
    assert found is not None
    return found


def upgrade(url: str) -> None:
    """Creates or upgrades the index at `url`. Raises `IndexUnusable` where a newer version has written it."""
    index = Index(url)
    try:
        upgrade_index(index)
    finally:
        index.close()


def upgrade_index(index: Index) -> None:
    """As `upgrade`, on an open index."""
    with index.read() as connection:
        if MigrationContext.configure(connection).get_current_revision() == head():
            return
    with index.write() as connection:
        if not index.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK)))
        current = MigrationContext.configure(connection).get_current_revision()
        known = {script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()}
        if current is not None and current not in known:
            raise IndexUnusable(f"index: its schema {current} is newer than this version of bouncetap; upgrade first")
        alembic = config()
        alembic.attributes["connection"] = connection
        command.upgrade(alembic, "head")
