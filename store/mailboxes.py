r"""The quarantine's folders as IMAP needs them: what is in them, what has changed, and what analysts may change.

All functions block (call them in threads) and are safe to call from several. Messages are named by folder and UID.
Per account: `\Seen`, `\Answered`, `\Deleted` (bits 1, 2, 4); shared: `\Flagged` and keywords. Every change raises the
folder's MODSEQ, by which other sessions and processes find it (`poll`, then `changes`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from store import copying
from store.entries import chunks, message_pks, raise_counters, remove
from store.errors import NoFolder, NotAllowed
from store.flagging import store_own, store_shared
from store.folders import INBOX
from store.imap.columns import DELETED, AccountEntry, Changes, Entry
from store.imap.roles import FlagChange
from store.quarantine import Quarantine
from store.schema import account_flags, accounts, entries, expunged, folders, messages

LOAD_CHUNK = 50_000
CHANGE_CHUNK = 2_000  # messages changed in one transaction


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder's counters, as of one moment."""

    pk: int
    name: str
    uidvalidity: int
    uidnext: int
    modseq: int
    messages: int


@dataclass(frozen=True, slots=True)
class Described:
    """IMAP answers that were computed when a message was filed."""

    envelope: bytes
    bodystructure: bytes
    header_bytes: int


class Mailboxes:
    """See the module docstring. Functions on an unknown folder raise NoFolder; all may raise SQLAlchemyError."""

    def __init__(self, quarantine: Quarantine) -> None:
        self._quarantine = quarantine
        self._index = quarantine.index

    # -- looking -------------------------------------------------------------------------------------------------

    def folder(self, name: str) -> Folder:
        """One folder's counters; INBOX in any case (RFC 3501 section 5.1)."""
        with self._index.read() as connection:
            return _find(connection, name)

    def poll(self) -> dict[str, int]:
        """Every folder's MODSEQ: it has grown where anything has changed. One cheap query."""
        with self._index.read() as connection:
            return dict(connection.execute(sa.select(folders.c.name, folders.c.modseq)).all())

    def unseen(self, account: str, name: str) -> int:
        r"""How many messages of a folder the account has not `\Seen`."""
        with self._index.read() as connection:
            folder = _find(connection, name)
            mine = _flags_of(folder.pk, account).where(account_flags.c.bits.op("&")(1) == 1)
            seen = connection.execute(sa.select(sa.func.count()).select_from(mine.subquery())).scalar_one()
        return folder.messages - int(seen)

    def load(self, name: str) -> Iterator[Changes]:
        """The whole folder as one consistent view, in pieces, ascending by UID; each is to be applied in turn."""
        with self._index.read() as connection:
            folder = _find(connection, name)
            rows = connection.execution_options(yield_per=LOAD_CHUNK).execute(_ENTRIES, {"folder": folder.pk})
            for piece in rows.partitions():
                yield Changes(0, 0, _entries(piece))
            yield Changes(folder.modseq, folder.uidnext)

    def account_flags(self, name: str, account: str) -> list[AccountEntry]:
        """(UID, bits) where the account has any flag set; read it after `load`."""
        with self._index.read() as connection:
            folder = _find(connection, name)
            return _pairs(connection.execute(_flags_of(folder.pk, account)))

    def changes(self, name: str, modseq: int, accounts_: Collection[str] = ()) -> Changes | None:
        """What has happened since `modseq`, with the flags of those accounts.

        None where it was so long ago that not all is known: `load` the folder anew.
        """
        with self._index.read() as connection:
            folder = _find(connection, name)
            floor = connection.execute(sa.select(folders.c.expunged_floor).where(folders.c.pk == folder.pk))
            if modseq < floor.scalar_one():
                return None
            if folder.modseq == modseq:
                return Changes(modseq, folder.uidnext)
            since = {"folder": folder.pk, "since": modseq}
            flags = {name: _pairs(connection.execute(_FLAGS_SINCE, since | {"account": name})) for name in accounts_}
            return Changes(
                folder.modseq,
                folder.uidnext,
                _entries(connection.execute(_ENTRIES_SINCE, since)),
                [uid for (uid,) in connection.execute(_EXPUNGED_SINCE, since)],
                flags,
            )

    def described(self, name: str, uids: Iterable[int]) -> dict[int, Described]:
        """What FETCH ENVELOPE and BODYSTRUCTURE answer, by UID; expunged ones are missing."""
        m = messages.c
        found: dict[int, Described] = {}
        with self._index.read() as connection:
            folder = _find(connection, name)
            query = sa.select(entries.c.uid, m.imap_envelope, m.imap_bodystructure, m.header_bytes)
            query = query.join_from(entries, messages).where(entries.c.folder_pk == folder.pk)
            for piece in chunks(uids):
                for uid, *values in connection.execute(query.where(entries.c.uid.in_(piece))):
                    found[uid] = Described(*values)
        return found

    def envelopes(self, name: str, uids: Iterable[int]) -> dict[int, bytes]:
        """ENVELOPE values by UID; expunged ones are missing."""
        found: dict[int, bytes] = {}
        with self._index.read() as connection:
            folder = _find(connection, name)
            query = sa.select(entries.c.uid, messages.c.imap_envelope).join_from(entries, messages)
            for piece in chunks(uids):
                here = sa.and_(entries.c.folder_pk == folder.pk, entries.c.uid.in_(piece))
                found |= dict(connection.execute(query.where(here)).all())
        return found

    def shown(self, name: str, uids: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """(UID, annotation and original) of those that are there, one in memory at a time, in no certain order.

        Raises OSError, DamagedFrame.
        """
        with self._index.read() as connection:
            pks = message_pks(connection, _find(connection, name).pk, uids)
        by_pk: dict[int, list[int]] = {}
        for uid, pk in pks.items():
            by_pk.setdefault(pk, []).append(uid)
        for pk, frame in self._quarantine.frames(by_pk):
            for uid in by_pk[pk]:
                yield uid, frame.shown

    # -- changing ------------------------------------------------------------------------------------------------

    def store(self, name: str, account: str, uids: Sequence[int], change: FlagChange) -> Changes:
        """Change flags; returns the entries and the account's flags as they are now where they have changed.

        UIDs that have gone are passed over. Many UIDs are changed in several transactions, so that nobody waits
        long; `modseq` is that of the last one, and others may have changed things in between.
        """
        shared: list[Entry] = []
        own: list[AccountEntry] = []
        folder, modseq = self.folder(name), 0
        for piece in chunks(uids, CHANGE_CHUNK):
            with self._index.write() as connection:
                _, modseq = raise_counters(connection, folder.pk)
                if change.touches_shared:
                    shared += store_shared(connection, folder.pk, piece, change, modseq)
                if change.set_bits or change.clear_bits:
                    own += store_own(connection, folder.pk, account, piece, change, modseq)
        return Changes(modseq, folder.uidnext, shared, (), {account: own})

    def copy(self, name: str, account: str, uids: Sequence[int], target: str) -> list[tuple[int, int]]:
        """Show messages in another folder too, all or none (RFC 3501 section 6.4.7); a correction.

        Returns (UID, new UID), ascending. Raises NotAllowed for INBOX.
        """
        with self._index.write() as connection:
            return _copied(connection, name, target, uids, account, "copy")

    def move(self, name: str, account: str, uids: Sequence[int], target: str) -> list[tuple[int, int]]:
        """As `copy`, and the old entries go (RFC 6851). Raises NotAllowed for INBOX and the folder itself."""
        with self._index.write() as connection:
            pairs = _copied(connection, name, target, uids, account, "move")
            remove(connection, _find(connection, name).pk, [uid for uid, _ in pairs])
        return pairs

    def expunge(self, name: str, account: str, uids: Collection[int] | None = None, *, held: bool = False) -> list[int]:
        r"""Remove what the account has marked `\Deleted`; returns the UIDs that went.

        `uids` restricts it (UID EXPUNGE, RFC 4315). What is `\Flagged` goes only with `held`.
        """
        e, f = entries.c, account_flags.c
        with self._index.read() as connection:
            folder = _find(connection, name)
            deleted = _flags_of(folder.pk, account).where(f.bits.op("&")(DELETED) == DELETED)
            marked = {uid for uid, _ in connection.execute(deleted)}
        wanted = sorted(marked if uids is None else marked.intersection(uids))
        gone: list[int] = []
        for piece in chunks(wanted, CHANGE_CHUNK):
            with self._index.write() as connection:
                # Once more, now that nobody else can flag them.
                loose = []
                for few in chunks(piece):
                    query = sa.select(e.uid).where(e.folder_pk == folder.pk, e.uid.in_(few))
                    query = query if held else query.where(sa.not_(e.flagged))
                    loose += [uid for (uid,) in connection.execute(query)]
                gone += remove(connection, folder.pk, loose)
        return gone


_FOLDERS = sa.select(*(folders.c[name] for name in ("pk", "name", "uidvalidity", "uidnext", "modseq", "messages")))
_ENTRIES = (
    sa.select(*(entries.c[name] for name in ("uid", "received_s", "shown_bytes", "flagged", "keywords")))
    .where(entries.c.folder_pk == sa.bindparam("folder"))
    .order_by(entries.c.uid)
)
_ENTRIES_SINCE = _ENTRIES.where(entries.c.modseq > sa.bindparam("since"))
_EXPUNGED_SINCE = (
    sa.select(expunged.c.uid)
    .where(expunged.c.folder_pk == sa.bindparam("folder"), expunged.c.modseq > sa.bindparam("since"))
    .order_by(expunged.c.uid)
)
_FLAGS_SINCE = (
    sa.select(account_flags.c.uid, account_flags.c.bits)
    .join_from(account_flags, accounts)
    .where(
        accounts.c.name == sa.bindparam("account"),
        account_flags.c.folder_pk == sa.bindparam("folder"),
        account_flags.c.modseq > sa.bindparam("since"),
    )
)


def _flags_of(folder_pk: int, account: str) -> sa.Select[Any]:
    f = account_flags.c
    query = sa.select(f.uid, f.bits).join_from(account_flags, accounts)
    return query.where(accounts.c.name == account, f.folder_pk == folder_pk)


def _pairs(rows: Iterable[Any]) -> list[AccountEntry]:
    return [(uid, bits) for uid, bits in rows]


def _entries(rows: Iterable[Any]) -> list[Entry]:
    return [(uid, received_s, size, flagged, keywords) for uid, received_s, size, flagged, keywords in rows]


def _folder(row: Any) -> Folder:
    return Folder(*row)


def _find(connection: Connection, name: str) -> Folder:
    name = INBOX if name.upper() == INBOX else name
    row = connection.execute(_FOLDERS.where(folders.c.name == name)).one_or_none()
    if row is None:
        raise NoFolder(name)
    return _folder(row)


def _copied(
    connection: Connection, name: str, target_name: str, uids: Sequence[int], account: str, action: str
) -> list[tuple[int, int]]:
    source, target = _find(connection, name), _find(connection, target_name)
    if target.name == INBOX:
        raise NotAllowed("INBOX stays empty")
    if action == "move" and target.pk == source.pk:
        raise NotAllowed("the messages are there already")
    copied = copying.copy(connection, source.pk, target.pk, uids)
    if target.pk != source.pk:
        pks = [one.message_pk for one in copied]
        copying.record(connection, pks, account=account, action=action, from_folder=source.name, to_folder=target.name)
    return [(one.uid, one.new_uid) for one in copied]
