"""COPY and MOVE: a message shown in another folder too, and what it says of the classifier, inside one transaction.

Each is recorded as a correction, which outlives its message, so that rules can be mended and other systems be told
(`export.corrections_page`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from store.entries import chunks, raise_counters
from store.errors import NotAllowed
from store.schema import account_flags, corrections, entries, messages

COPIES_LIMIT = 10  # of one message in one folder, before a COPY: each doubles what is there


class Copied(NamedTuple):
    """One entry and its copy."""

    uid: int
    new_uid: int
    message_pk: int


def copy(connection: Connection, source_pk: int, target_pk: int, uids: Sequence[int]) -> list[Copied]:
    """Show those of `uids` that are there in the target folder too, ascending.

    Flags, keywords and internal date go with them (RFC 3501 section 6.4.7). Raises NotAllowed at COPIES_LIMIT.
    """
    e = entries.c
    query = sa.select(e.uid, e.message_pk, e.received_s, e.shown_bytes, e.flagged, e.keywords)
    query = query.where(e.folder_pk == source_pk).order_by(e.uid)
    rows = [
        row._asdict() for piece in chunks(sorted(uids)) for row in connection.execute(query.where(e.uid.in_(piece)))
    ]
    if not rows:
        return []
    _refuse_heaps(connection, target_pk, {row["message_pk"] for row in rows})
    first, modseq = raise_counters(connection, target_pk, uids=len(rows), messages_by=len(rows))
    copied = [Copied(row["uid"], first + number, row["message_pk"]) for number, row in enumerate(rows)]
    new = [
        {**row, "folder_pk": target_pk, "uid": one.new_uid, "modseq": modseq}
        for row, one in zip(rows, copied, strict=True)
    ]
    connection.execute(sa.insert(entries), new)
    for some in chunks(copied):
        _copy_own_flags(connection, source_pk, target_pk, {one.uid: one.new_uid for one in some}, modseq)
    return copied


def _refuse_heaps(connection: Connection, target_pk: int, message_pks: Iterable[int]) -> None:
    """Copies of copies grow without bound: NotAllowed if one of the messages stands there COPIES_LIMIT times."""
    e = entries.c
    query = sa.select(e.message_pk).where(e.folder_pk == target_pk)
    query = query.group_by(e.message_pk).having(sa.func.count() >= COPIES_LIMIT).limit(1)
    for piece in chunks(message_pks):
        if connection.execute(query.where(e.message_pk.in_(piece))).first():
            raise NotAllowed(f"a folder shows a message at most {COPIES_LIMIT} times")


def _copy_own_flags(
    connection: Connection, source_pk: int, target_pk: int, new_uids: dict[int, int], modseq: int
) -> None:
    """The flags of all accounts."""
    f = account_flags.c
    here = sa.and_(f.folder_pk == source_pk, f.uid.in_(new_uids), f.bits != 0)
    rows = [
        {"account_pk": pk, "folder_pk": target_pk, "uid": new_uids[uid], "bits": bits, "modseq": modseq}
        for pk, uid, bits in connection.execute(sa.select(f.account_pk, f.uid, f.bits).where(here))
    ]
    if rows:
        connection.execute(sa.insert(account_flags), rows)


def record(connection: Connection, message_pks: Iterable[int], **what: str) -> None:
    """Remember that an analyst disagreed with the classifier: `account`, `action`, `from_folder`, `to_folder`."""
    m = messages.c
    at_ns = time.time_ns()
    for piece in chunks(message_pks):
        query = sa.select(m.id, m.kind, m.category, m.reason).where(m.pk.in_(piece))
        rows = [{**row._asdict(), "at_ns": at_ns, **what} for row in connection.execute(query)]
        connection.execute(sa.insert(corrections), rows)
