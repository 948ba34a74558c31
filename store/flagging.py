r"""STORE: shared flags and keywords of entries, and the flags of one account, inside the caller's transaction.

The caller has raised the folder's MODSEQ under its lock; what changes carries that MODSEQ, and is returned.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from store.entries import chunks, message_pks
from store.errors import NotAllowed
from store.folders import joined
from store.imap.columns import AccountEntry, Entry
from store.imap.roles import FlagChange
from store.schema import account_flags, accounts, entries

KEYWORDS_LIMIT = 100  # of one entry; the classifier gives a few dozen at most


def store_shared(
    connection: Connection, folder_pk: int, uids: Sequence[int], change: FlagChange, modseq: int
) -> list[Entry]:
    r"""Change `\Flagged` and keywords; the entries that have changed. Raises NotAllowed beyond KEYWORDS_LIMIT."""
    e = entries.c
    added, removed = set(change.add), {word.lower() for word in change.remove}
    changed: list[Entry] = []
    for piece in chunks(uids):
        here = sa.and_(e.folder_pk == folder_pk, e.uid.in_(piece))
        rows = connection.execute(sa.select(e.uid, e.received_s, e.shown_bytes, e.flagged, e.keywords).where(here))
        for uid, received_s, size, flagged, keywords in rows.all():
            new_flagged = flagged if change.flagged is None else change.flagged
            words = [] if change.replace_keywords else keywords.split()
            present = {word.lower() for word in words}
            words = [w for w in words if w.lower() not in removed] + [w for w in added if w.lower() not in present]
            new = joined(words)
            if len(words) > max(KEYWORDS_LIMIT, len(present)):
                raise NotAllowed(f"a message has at most {KEYWORDS_LIMIT} keywords")
            if (new_flagged, new) != (flagged, keywords):
                changed.append((uid, received_s, size, new_flagged, new))
    if changed:
        one = sa.and_(e.folder_pk == folder_pk, e.uid == sa.bindparam("one"))
        update = (
            sa.update(entries).where(one).values(flagged=sa.bindparam("f"), keywords=sa.bindparam("k"), modseq=modseq)
        )
        connection.execute(update, [{"one": uid, "f": f, "k": k} for uid, _, _, f, k in changed])
    return changed


def store_own(
    connection: Connection, folder_pk: int, account: str, uids: Sequence[int], change: FlagChange, modseq: int
) -> list[AccountEntry]:
    """Change the account's own flags; those that have changed. Raises NotAllowed where the account is gone."""
    account_pk = connection.execute(sa.select(accounts.c.pk).where(accounts.c.name == account)).scalar_one_or_none()
    if account_pk is None:
        raise NotAllowed("the account has been removed")
    f = account_flags.c
    new: list[AccountEntry] = []
    known: set[int] = set()
    for piece in chunks(uids):
        here = sa.and_(f.account_pk == account_pk, f.folder_pk == folder_pk, f.uid.in_(piece))
        before = dict(connection.execute(sa.select(f.uid, f.bits).where(here)).all())
        known |= before.keys()
        for uid in message_pks(connection, folder_pk, piece):
            bits = (before.get(uid, 0) | change.set_bits) & ~change.clear_bits
            if bits != before.get(uid, 0):
                new.append((uid, bits))
    # A row stays when its last bit goes: other sessions of the account learn of it by its MODSEQ.
    key = {"account_pk": account_pk, "folder_pk": folder_pk, "modseq": modseq}
    if rows := [key | {"uid": uid, "bits": bits} for uid, bits in new if uid not in known]:
        connection.execute(sa.insert(account_flags), rows)
    if rows := [{"one": uid, "b": bits} for uid, bits in new if uid in known]:
        one = sa.and_(f.account_pk == account_pk, f.folder_pk == folder_pk, f.uid == sa.bindparam("one"))
        connection.execute(sa.update(account_flags).where(one).values(bits=sa.bindparam("b"), modseq=modseq), rows)
    return new
