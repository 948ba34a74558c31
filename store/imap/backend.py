"""The quarantine as sessions see it: folders in memory, kept up to date, over `store.mailboxes`.

All that blocks runs in small thread pools; the loop only ever touches the columns. One task watches all folders that
sessions have open; every change, our own included, reaches the columns under the folder's lock, so that all sessions
hear of it in the same way and none is overtaken by an older one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import structlog

from store.imap.columns import DELETED, AccountColumn, AccountEntry, Changes, Columns, Entry
from store.imap.recent import RecentTexts
from store.imap.roles import FlagChange
from store.imap.search import Positions, Work
from store.imap.structure import describe
from store.mailboxes import Mailboxes
from store.segments import DamagedFrame

log = structlog.get_logger("imap")

T = TypeVar("T")
_THREADS = 4
_SEARCH_THREADS = 2
_SEARCH_SLICE_S = 0.05  # of one search's work, before another's turn
_RETRY_S = 2.0  # after the index could not be read
_IDLE_ACCOUNTS = 8  # accounts whose flags are kept in memory though no session uses them


class Backend:
    """One per server. The coroutines raise NoFolder, NotAllowed, and what the index or the disk raises."""

    def __init__(self, store: Mailboxes, *, poll_interval_s: float) -> None:
        self._store = store
        self._poll_interval_s = poll_interval_s
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="imap")
        self._search_threads = ThreadPoolExecutor(_SEARCH_THREADS, thread_name_prefix="imap-search")
        self._folders: dict[str, Columns] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._recent = RecentTexts()
        self._watcher: asyncio.Task[None] | None = None
        self.last_error = ""

    async def start(self) -> None:
        """Begin to watch."""
        self._watcher = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Stop watching and wait for what runs in threads."""
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        for threads in (self._threads, self._search_threads):
            await asyncio.to_thread(threads.shutdown, wait=True, cancel_futures=True)

    @property
    def loaded(self) -> dict[str, int]:
        """Folders in memory, and how many messages each has."""
        return {name: len(columns) for name, columns in self._folders.items()}

    async def run(self, work: Callable[[], T]) -> T:
        """Do something that blocks in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    # -- folders -------------------------------------------------------------------------------------------------

    async def names(self) -> list[str]:
        """All folders."""
        return list(await self.run(self._store.poll))

    async def acquire(self, name: str, account: str) -> Columns:
        """A folder, up to date, with the account's flags; to be given back by `release`."""
        if name not in self._folders:
            await self.run(lambda: self._store.folder(name))  # a lock for each name that was ever asked for would stay
        async with self._lock(name):
            columns = self._folders.get(name)
            if columns is None:
                columns = self._folders[name] = await self.run(lambda: _loaded(self._store, name))
            else:
                await self._refresh(columns)
            column = columns.accounts.get(account)
            if column is None:
                flags = await self.run(lambda: self._store.account_flags(name, account))
                column = AccountColumn(len(columns))
                for uid, bits in flags:
                    if (at := columns.position(uid)) >= 0:
                        column.bits[at] = bits
                columns.accounts[account] = column
            column.users += 1
        return columns

    def release(self, columns: Columns, account: str) -> None:
        """A session has left the folder."""
        columns.accounts[account].users -= 1
        unused = [name for name, column in columns.accounts.items() if not column.users]
        for name in unused[:-_IDLE_ACCOUNTS]:
            del columns.accounts[name]

    async def status(self, name: str, account: str) -> dict[str, int]:
        """What STATUS tells, by its item's name. A folder that nobody has opened stays in the index."""
        if name not in self._folders:
            folder = await self.run(lambda: self._store.folder(name))
            unseen = await self.run(lambda: self._store.unseen(account, name))
            counts = (folder.messages, 0, folder.uidnext, folder.uidvalidity, min(unseen, folder.messages))
        else:
            columns = await self.acquire(name, account)
            recent = len(columns) - bisect_left(columns.uids, columns.recent_from)
            counts = (len(columns), recent, columns.uidnext, columns.uidvalidity, columns.unseen(account))
            self.release(columns, account)
        return dict(zip(("MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN"), counts, strict=True))

    async def refresh(self, columns: Columns) -> None:
        """Take over what others have changed."""
        async with self._lock(columns.name):
            await self._refresh(columns)

    async def _refresh(self, columns: Columns) -> None:
        name, modseq, accounts = columns.name, columns.modseq, tuple(columns.accounts)
        changes = await self.run(lambda: self._store.changes(name, modseq, accounts))
        if changes is None:
            changes = await self.run(lambda: _compared(self._store, columns, accounts))
        columns.apply(changes)

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._poll_interval_s)
            used = [c for c in self._folders.values() if any(a.users for a in c.accounts.values())]
            if not used:
                continue
            try:
                modseqs = await self.run(self._store.poll)
                for columns in used:
                    if modseqs.get(columns.name, columns.modseq) != columns.modseq:
                        await self.refresh(columns)
            except Exception as error:
                self.last_error = f"index: {type(error).__name__}"
                log.exception("watch_failed")
                await asyncio.sleep(_RETRY_S)

    # -- reading -------------------------------------------------------------------------------------------------

    async def envelopes(self, columns: Columns, uids: Sequence[int]) -> Mapping[int, tuple[bytes, bytes]]:
        """ENVELOPE and BODYSTRUCTURE by UID; what has gone is missing."""
        return await self.run(lambda: self._described(columns.name, uids))

    def _described(self, name: str, uids: Sequence[int]) -> dict[int, tuple[bytes, bytes]]:
        found = {uid: (d.envelope, d.bodystructure) for uid, d in self._store.described(name, uids).items()}
        bare = [uid for uid, (envelope, structure) in found.items() if not envelope or not structure]
        for uid in bare:
            for shown in self._texts(name, (uid,)).values():
                made = describe(shown)
                found[uid] = (made.envelope, made.bodystructure)
        return {uid: pair for uid, pair in found.items() if pair[0]}

    async def texts(self, columns: Columns, uids: Sequence[int]) -> Mapping[int, bytes]:
        """Annotation and original by UID; what has gone, or cannot be read, is missing."""
        return await self.run(lambda: self._texts(columns.name, uids))

    def _texts(self, name: str, uids: Sequence[int]) -> dict[int, bytes]:
        kept = {uid: text for uid in uids if (text := self._recent.get(name, uid)) is not None}
        read = self._read(name, [uid for uid in uids if uid not in kept])
        for uid, text in read.items():
            self._recent.keep(name, uid, text)
        return kept | read

    def _read(self, name: str, uids: Sequence[int]) -> dict[int, bytes]:
        try:
            return dict(self._store.shown(name, uids))
        except (OSError, DamagedFrame):
            found: dict[int, bytes] = {}
            for uid in uids:  # one damaged message must not hide the others
                try:
                    found |= dict(self._store.shown(name, (uid,)))
                except (OSError, DamagedFrame) as error:
                    self.last_error = f"unreadable message: {type(error).__name__}"
                    log.error("message_unreadable", folder=name, uid=uid, error=type(error).__name__)
            return found

    def source(self, columns: Columns) -> FolderSource:
        """What a search reads from."""
        return FolderSource(self, columns.name)

    async def finish(self, work: Work) -> Positions:
        """Run a search to its end, a slice at a time, so that others get their turn."""
        loop = asyncio.get_running_loop()
        while True:
            found = await loop.run_in_executor(self._search_threads, _advance, work)
            if found is not None:
                return found

    # -- changing ------------------------------------------------------------------------------------------------

    async def store(self, columns: Columns, account: str, uids: Sequence[int], change: FlagChange) -> None:
        """Change flags."""
        async with self._lock(columns.name):
            changes = await self.run(lambda: self._store.store(columns.name, account, uids, change))
            columns.apply(replace(changes, modseq=0))  # others' changes up to it are still to be read

    async def copy(
        self, columns: Columns, account: str, uids: Sequence[int], target: str, *, move: bool
    ) -> tuple[int, list[tuple[int, int]]]:
        """COPY or MOVE: the target's UIDVALIDITY, and pairs of old and new UIDs."""
        act = self._store.move if move else self._store.copy
        async with self._lock(columns.name):
            pairs = await self.run(lambda: act(columns.name, account, uids, target))
            await self._refresh(columns)
        return (await self.run(lambda: self._store.folder(target))).uidvalidity, pairs

    async def expunge(self, columns: Columns, account: str, only: Sequence[int] | None, *, held: bool) -> int:
        r"""Remove what the account has marked `\Deleted`; gives how many such messages are held back."""
        async with self._lock(columns.name):
            await self.run(lambda: self._store.expunge(columns.name, account, only, held=held))
            await self._refresh(columns)
        marked = [columns.uids[p] for p, bits in enumerate(columns.accounts[account].bits) if bits & DELETED]
        return len(marked if only is None else set(marked).intersection(only))


class FolderSource:
    """Reads for searches, in a search's own thread."""

    def __init__(self, backend: Backend, name: str) -> None:
        self._backend = backend
        self._name = name

    def envelopes(self, uids: Sequence[int]) -> Mapping[int, bytes]:
        """ENVELOPE values by UID."""
        return self._backend._store.envelopes(self._name, uids)

    def texts(self, uids: Sequence[int]) -> Mapping[int, bytes]:
        """Messages as they are shown, by UID."""
        return self._backend._texts(self._name, uids)


def _advance(work: Work) -> Positions | None:
    """A slice of a search; its result once it has ended."""
    end = time.monotonic() + _SEARCH_SLICE_S
    try:
        while time.monotonic() < end:
            next(work)
    except StopIteration as stop:
        found: Positions = stop.value
        return found
    return None


def _loaded(store: Mailboxes, name: str) -> Columns:
    """A folder read from scratch."""
    columns = Columns(name, store.folder(name).uidvalidity)
    for piece in store.load(name):
        columns.apply(piece)
    columns.recent_from = columns.uidnext
    return columns


def _compared(store: Mailboxes, columns: Columns, accounts: Sequence[str]) -> Changes:
    """All of a folder as changes, where too long a time has passed to know them one by one."""
    entries: list[Entry] = []
    last = Changes(columns.modseq, columns.uidnext)
    for last in store.load(columns.name):
        entries.extend(last.entries)
    there = {entry[0] for entry in entries}
    flags: dict[str, list[AccountEntry]] = {}
    for account in accounts:
        set_now = dict(store.account_flags(columns.name, account))
        flags[account] = [(uid, set_now.get(uid, 0)) for uid in there]
    gone = [uid for uid in columns.uids if uid not in there]
    return Changes(last.modseq, last.uidnext, entries, gone, flags)
