"""The fixed folders, and UIDVALIDITY: a UID never stands for another message, not even after a restore.

UIDVALIDITY and UIDNEXT of every folder are mirrored in `<state_dir>/uidvalidity.json`, outside the index. Where the
mirror has handed out UIDs that the index knows nothing of (it was restored from a backup, or rebuilt), the folder
gets a new UIDVALIDITY, max(old + 1, now), and clients fetch it afresh (RFC 3501 section 2.3.1.1). Segments that are
older than such an index are then the only copy of mail that it does not know: `orphans_kept_ns` keeps expiry off them.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from store.folders import FOLDERS, INBOX
from store.index import Index
from store.schema import folders, meta

_ORPHANS_KEPT = "orphans_kept_ns"

Mirrored = dict[str, tuple[int, int]]  # folder: UIDVALIDITY, UIDNEXT


def mirror_path(state_dir: Path) -> Path:
    """Where the mirror is."""
    return state_dir / "uidvalidity.json"


def ensure_folders(index: Index, state_dir: Path) -> None:
    """Create the fixed folders, and give new UIDVALIDITYs where the index went back in time. Idempotent."""
    mirrored = read_mirror(state_dir)
    with index.read() as connection:
        if not _wrong(connection, mirrored):
            return
    now = int(time.time())
    with index.write() as connection:
        wrong = _wrong(connection, mirrored)
        if INBOX in wrong or wrong & mirrored.keys():  # new, or older than what was made with it
            _keep_orphans(connection)
        for name in sorted(wrong):
            old, _ = mirrored.get(name, (0, 0))
            valid = max(old + 1, now)
            changed = connection.execute(sa.update(folders).where(folders.c.name == name).values(uidvalidity=valid))
            if not changed.rowcount:
                fresh = {"uidvalidity": valid, "uidnext": 1, "modseq": 1, "messages": 0, "expunged_floor": 1}
                connection.execute(sa.insert(folders).values(name=name, **fresh))


def orphans_kept_ns(connection: Connection) -> int:
    """Segments last written before this time (Unix, ns) are kept, even if no row knows them; 0: none."""
    found = connection.execute(sa.select(meta.c.value).where(meta.c.name == _ORPHANS_KEPT)).scalar_one_or_none()
    return int(found or 0)


def _keep_orphans(connection: Connection) -> None:
    connection.execute(sa.delete(meta).where(meta.c.name == _ORPHANS_KEPT))
    connection.execute(sa.insert(meta).values(name=_ORPHANS_KEPT, value=str(time.time_ns())))


def _wrong(connection: Connection, mirrored: Mirrored) -> set[str]:
    """Folders that are missing, or know of fewer UIDs than were handed out."""
    present = _present(connection)
    wrong = {name for name in (INBOX, *FOLDERS) if name not in present}
    for name, (valid, uidnext) in mirrored.items():
        if name in present and present[name][0] <= valid and (present[name][0] < valid or present[name][1] < uidnext):
            wrong.add(name)
    return wrong


def _present(connection: Connection) -> Mirrored:
    rows = connection.execute(sa.select(folders.c.name, folders.c.uidvalidity, folders.c.uidnext))
    return {name: (valid, uidnext) for name, valid, uidnext in rows}


def read_mirror(state_dir: Path) -> Mirrored:
    """What the mirror says; empty where there is none, or none that can be read."""
    try:
        data = json.loads(mirror_path(state_dir).read_bytes())
        return {str(name): (int(valid), int(uidnext)) for name, (valid, uidnext) in data.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


class Mirror:
    """Keeps the mirror up to date; `write` after commits and at the end."""

    def __init__(self, index: Index, state_dir: Path) -> None:
        self._index = index
        self._path = mirror_path(state_dir)
        self._written: Mirrored = {}

    def write(self) -> None:
        """Take the index's state over, atomically. Raises OSError."""
        with self._index.read() as connection:
            present = _present(connection)
        if present == self._written:
            return
        temporary = self._path.with_suffix(".new")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(present, file)
            file.flush()
            os.fdatasync(file.fileno())
        temporary.replace(self._path)
        self._written = present
