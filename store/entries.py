"""The changes to folders and entries that several parts make: UIDs handed out, MODSEQs raised, entries removed.

Each runs inside the caller's write transaction and first changes the folder's row: that is the lock under which
UIDNEXT and MODSEQ grow, held until the commit (architecture, "UIDs").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from store.schema import account_flags, entries, expunged, folders, messages, recipients, segments

CHUNK = 500  # values in one IN (...)
EXPUNGED_KEPT, EXPUNGED_SLACK = 2_000, 100  # a folder's MODSEQs for which `expunged` stays complete

T = TypeVar("T")


def chunks(values: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """`values` in lists of at most `size`."""
    iterator = iter(values)
    while piece := list(islice(iterator, size)):
        yield piece


def message_pks(connection: Connection, folder_pk: int, uids: Iterable[int]) -> dict[int, int]:
    """The messages that entries of a folder show, by UID; what has gone is missing."""
    found: dict[int, int] = {}
    for piece in chunks(uids):
        query = sa.select(entries.c.uid, entries.c.message_pk)
        here = sa.and_(entries.c.folder_pk == folder_pk, entries.c.uid.in_(piece))
        found |= dict(connection.execute(query.where(here)).all())
    return found


def raise_counters(connection: Connection, folder_pk: int, *, uids: int = 0, messages_by: int = 0) -> tuple[int, int]:
    """Lock the folder; returns (the first of `uids` new UIDs, the new MODSEQ)."""
    c = folders.c
    changed = (
        sa.update(folders)
        .where(c.pk == folder_pk)
        .values(uidnext=c.uidnext + uids, modseq=c.modseq + 1, messages=c.messages + messages_by)
        .returning(c.uidnext, c.modseq)
    )
    uidnext, modseq = connection.execute(changed).one()
    return uidnext - uids, modseq


def remove(connection: Connection, folder_pk: int, uids: Sequence[int]) -> list[int]:
    """Remove entries, and the messages that then show nowhere; returns the UIDs that were there."""
    found: list[tuple[int, int]] = []
    for piece in chunks(uids):
        query = sa.select(entries.c.uid, entries.c.message_pk)
        query = query.where(entries.c.folder_pk == folder_pk, entries.c.uid.in_(piece))
        found += [(uid, pk) for uid, pk in connection.execute(query)]
    if not found:
        return []
    gone = sorted(uid for uid, _ in found)
    _, modseq = raise_counters(connection, folder_pk, messages_by=-len(gone))
    for table in (entries, account_flags):
        for piece in chunks(gone):
            connection.execute(sa.delete(table).where(table.c.folder_pk == folder_pk, table.c.uid.in_(piece)))
    connection.execute(sa.insert(expunged), [{"folder_pk": folder_pk, "modseq": modseq, "uid": uid} for uid in gone])
    _forget_expunged(connection, folder_pk, modseq)
    for piece in chunks({pk for _, pk in found}):
        _remove_unshown(connection, piece)
    return gone


def _forget_expunged(connection: Connection, folder_pk: int, modseq: int) -> None:
    """Now and then, forget what went long ago: a session that has not heard of it compares (`Mailboxes.changes`)."""
    this = folders.c.pk == folder_pk
    floor = connection.execute(sa.select(folders.c.expunged_floor).where(this)).scalar_one()
    if modseq - floor < EXPUNGED_KEPT + EXPUNGED_SLACK:
        return
    floor = modseq - EXPUNGED_KEPT
    old = sa.and_(expunged.c.folder_pk == folder_pk, expunged.c.modseq <= floor)
    connection.execute(sa.delete(expunged).where(old))
    connection.execute(sa.update(folders).where(this).values(expunged_floor=floor))


def _remove_unshown(connection: Connection, message_pks: list[int]) -> None:
    """Delete those messages that no entry shows any more, and take them off their segments' counts."""
    shown = sa.exists().where(entries.c.message_pk == messages.c.pk)
    query = sa.select(messages.c.pk, messages.c.segment_pk, messages.c.frame_bytes)
    rows = connection.execute(query.where(messages.c.pk.in_(message_pks), ~shown).with_for_update()).all()
    if not rows:
        return
    pks = [pk for pk, _, _ in rows]
    by_segment: dict[int, tuple[int, int]] = {}
    for _, segment_pk, size in rows:
        count, total = by_segment.get(segment_pk, (0, 0))
        by_segment[segment_pk] = (count + 1, total + size)
    connection.execute(sa.delete(recipients).where(recipients.c.message_pk.in_(pks)))
    connection.execute(sa.delete(messages).where(messages.c.pk.in_(pks)))
    for segment_pk, (count, total) in sorted(by_segment.items()):
        take_off(connection, segment_pk, count, total)


def take_off(connection: Connection, segment_pk: int, count: int, size_bytes: int) -> None:
    """`count` messages of a segment live there no longer."""
    c = segments.c
    values = {"live_messages": c.live_messages - count, "live_bytes": c.live_bytes - size_bytes}
    connection.execute(sa.update(segments).where(c.pk == segment_pk).values(values))
