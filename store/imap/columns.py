"""One folder in memory: its messages as parallel arrays in order of UID, shared by all sessions of the process.

A million messages take about 20 MB, and 1 MB more for each account that has the folder open. Arrays only grow at
their end; an expunge makes new ones and leaves the old to the sessions that have not been told yet (`generation`).
All methods run on the loop; only `wait_beyond` waits.
"""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise

SEEN, ANSWERED, DELETED = 1, 2, 4
FLAGGED = b"\\Flagged"
_OWN = ((SEEN, b"\\Seen"), (ANSWERED, b"\\Answered"), (DELETED, b"\\Deleted"))
_LOG_LIMIT = 50_000

Entry = tuple[int, int, int, bool, str]  # uid, received_s, shown_bytes, flagged, keywords
AccountEntry = tuple[int, int]  # uid, bits


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened to a folder up to `modseq`: entries new or changed, UIDs gone, flags of accounts."""

    modseq: int
    uidnext: int
    entries: Sequence[Entry] = ()
    expunged: Sequence[int] = ()
    account_flags: dict[str, list[AccountEntry]] = field(default_factory=dict)


class Log:
    """The last 50,000 things that happened; a reader keeps the number of those it knows.

    A reader that has fallen further behind misses the oldest: where that matters it must compare by itself.
    """

    def __init__(self) -> None:
        self.total = 0
        self._items: deque[tuple[int, str]] = deque(maxlen=_LOG_LIMIT)

    def add(self, uid: int, account: str = "") -> None:
        """`account` is empty where all accounts are concerned."""
        self._items.append((uid, account))
        self.total += 1

    def since(self, known: int) -> list[tuple[int, str]] | None:
        """What came after the first `known` things; None where that is no longer known."""
        missed = self.total - known
        if missed > len(self._items):
            return None
        return list(islice(self._items, len(self._items) - missed, None)) if missed else []

    def tail(self) -> list[tuple[int, str]]:
        """All that is remembered."""
        return list(self._items)


class FlagSets:
    """Every combination of shared flags and keywords that occurs, once."""

    def __init__(self) -> None:
        self._index: dict[tuple[bool, str], int] = {}
        self.names: list[tuple[bytes, ...]] = []  # as shown
        self.folded: list[frozenset[bytes]] = []  # lower case
        self.keywords: dict[bytes, bytes] = {}  # lower case: as first seen, of all sets
        self._texts: dict[int, bytes] = {}

    def index(self, flagged: bool, keywords: str) -> int:
        """The number of a combination; `keywords` are separated by spaces."""
        key = (flagged, keywords)
        found = self._index.get(key)
        if found is None:
            words = tuple(word.encode("ascii", "replace") for word in keywords.split())
            self.keywords |= {word.lower(): word for word in words if word.lower() not in self.keywords}
            names = ((FLAGGED,) if flagged else ()) + words
            found = self._index[key] = len(self.names)
            self.names.append(names)
            self.folded.append(frozenset(name.lower() for name in names))
        return found

    def text(self, index: int, bits: int, recent: bool) -> bytes:
        """The words between the parentheses of FLAGS."""
        key = index << 4 | bits << 1 | recent
        text = self._texts.get(key)
        if text is None:
            own = tuple(name for bit, name in _OWN if bits & bit)
            text = b" ".join(own + self.names[index] + ((b"\\Recent",) if recent else ()))
            self._texts[key] = text
        return text


class AccountColumn:
    """What one account has set on each message: `bits` parallel to the folder's arrays."""

    def __init__(self, length: int) -> None:
        self.bits = bytearray(length)
        self.users = 0


class Columns:
    """See the module docstring. `name`, `uidvalidity` never change; `modseq` is the state of the index shown."""

    def __init__(self, name: str, uidvalidity: int) -> None:
        self.name = name
        self.uidvalidity = uidvalidity
        self.uidnext = 1
        self.modseq = 0
        self.generation = 0
        self.recent_from = 0  # UIDs from here on have been announced to no session
        self.uids = array("I")
        self.received_s = array("q")
        self.sizes = array("Q")
        self.sets = array("I")
        self.flag_sets = FlagSets()
        self.accounts: dict[str, AccountColumn] = {}
        self.changed = Log()
        self.removed = Log()
        self.version = 0  # grows whenever sessions have something to be told
        self._news = asyncio.Event()

    async def wait_beyond(self, version: int) -> None:
        """Wait until `self.version` is no longer `version`."""
        while self.version == version:
            await self._news.wait()

    def __len__(self) -> int:
        return len(self.uids)

    def position(self, uid: int) -> int:
        """Where a UID stands, or -1."""
        at = bisect_left(self.uids, uid)
        return at if at < len(self.uids) and self.uids[at] == uid else -1

    def unseen(self, account: str) -> int:
        """How many messages the account has not seen."""
        bits = self.accounts[account].bits
        return bits.translate(_SEEN_TABLE).count(0)

    def apply(self, changes: Changes) -> None:
        """Take over what happened. Applying the same changes twice does no harm."""
        before = (len(self), self.generation, self.changed.total)
        if changes.expunged:
            self._remove(changes.expunged)
        self._take(changes.entries)
        for account, entries in changes.account_flags.items():
            column = self.accounts.get(account)
            if column is not None:
                self.set_bits(account, column, entries)
        self.modseq = max(self.modseq, changes.modseq)
        self.uidnext = max(self.uidnext, changes.uidnext)
        if before != (len(self), self.generation, self.changed.total):
            self.version += 1
            self._news.set()
            self._news = asyncio.Event()

    def set_bits(self, account: str, column: AccountColumn, entries: Iterable[AccountEntry]) -> None:
        """Take over an account's flags."""
        for uid, bits in entries:
            at = self.position(uid)
            if at >= 0 and column.bits[at] != bits:
                column.bits[at] = bits
                self.changed.add(uid, account)

    def _take(self, entries: Iterable[Entry]) -> None:
        last, index = (self.uids[-1] if self.uids else 0), self.flag_sets.index
        for uid, received_s, size, flagged, keywords in entries:
            number = index(flagged, keywords)
            if uid > last:
                self.uids.append(uid)
                self.received_s.append(received_s)
                self.sizes.append(size)
                self.sets.append(number)
                last = uid
            elif (at := self.position(uid)) >= 0 and self.sets[at] != number:
                self.sets[at] = number
                self.changed.add(uid)
        for column in self.accounts.values():
            column.bits.extend(bytes(len(self.uids) - len(column.bits)))

    def _remove(self, uids: Sequence[int]) -> None:
        gone = sorted({at for uid in uids if (at := self.position(uid)) >= 0})
        if not gone:
            return
        for at in gone:
            self.removed.add(self.uids[at])
        edges = [-1, *gone, len(self.uids)]
        spans = [(a + 1, b) for a, b in pairwise(edges) if a + 1 < b]
        self.uids = _joined(self.uids, spans)
        self.received_s = _joined(self.received_s, spans)
        self.sizes = _joined(self.sizes, spans)
        self.sets = _joined(self.sets, spans)
        for column in self.accounts.values():
            column.bits = bytearray(b"".join(column.bits[a:b] for a, b in spans))
        self.generation += 1


_SEEN_TABLE = bytes(value & SEEN for value in range(256))


def _joined(column: array[int], spans: list[tuple[int, int]]) -> array[int]:
    joined = array(column.typecode)
    for first, end in spans:
        joined += column[first:end]
    return joined
