"""What one session has been told of its mailbox, and what it must be told next.

Sequence numbers belong to the session: they change only where RFC 3501 section 7.4.1 lets an EXPUNGE be sent. An
index here is a sequence number minus one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

from store.imap.columns import Columns
from store.imap.scanner import ImapSyntaxError, SequenceSet


class View:
    """A selected mailbox, as the client knows it."""

    def __init__(self, columns: Columns, account: str, *, read_only: bool) -> None:
        self.columns = columns
        self.account = account
        self.read_only = read_only
        self._recent: list[tuple[int, int]] = []  # ranges of UIDs, first to last
        self._claimed = 0  # UIDs below this one are settled
        self._catch_up()
        self._changes_known = columns.changed.total
        self._keywords_known = len(columns.flag_sets.keywords)

    def _catch_up(self) -> None:
        """Show the folder as it is now."""
        self.uids = self.columns.uids
        self.count = len(self.columns)
        self.generation = self.columns.generation
        self._removals_known = self.columns.removed.total
        self._claim_recent()

    def _claim_recent(self) -> None:
        """The first session to hear of a message sees it as recent (RFC 3501 section 2.3.2)."""
        first = max(self.columns.recent_from, self._claimed)
        end = self.uids[self.count - 1] + 1 if self.count else 0
        if first < end:
            self._claimed = end
            self._recent.append((first, end - 1))
            if not self.read_only:
                self.columns.recent_from = end

    def is_recent(self, uid: int) -> bool:
        """Whether this session is the one that first heard of the message."""
        return any(first <= uid <= last for first, last in self._recent)

    @property
    def recent(self) -> int:
        """How many recent messages there are."""
        edges = (
            (bisect_left(self.uids, a, 0, self.count), bisect_right(self.uids, b, 0, self.count))
            for a, b in self._recent
        )
        return sum(end - first for first, end in edges)

    def index(self, uid: int) -> int:
        """The index of a UID in this view, or -1."""
        at = bisect_left(self.uids, uid, 0, self.count)
        return at if at < self.count and self.uids[at] == uid else -1

    def resolve(self, messages: SequenceSet, *, uid: bool) -> list[range]:
        """The indices of a set. Raises ImapSyntaxError for sequence numbers that do not exist."""
        if uid:
            largest = self.uids[self.count - 1] if self.count else 0
            spans = messages.resolved(largest)
            found = [
                range(bisect_left(self.uids, a, 0, self.count), bisect_right(self.uids, b, 0, self.count))
                for a, b in spans
            ]
            return [span for span in found if span]
        if not self.count:
            return []
        spans = messages.resolved(self.count)
        if spans[-1][1] > self.count:
            raise ImapSyntaxError("no such message")
        return [range(a - 1, b) for a, b in spans]

    def position(self, index: int) -> int:
        """Where the folder's columns hold a message of this view now, or -1 if it has gone."""
        if self.generation == self.columns.generation:
            return index
        return self.columns.position(self.uids[index])

    def present(self, indices: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """Of some messages of this view, the indices and the positions of those that are still there."""
        if self.generation == self.columns.generation:
            return indices, indices
        pairs = [(index, position) for index in indices if (position := self.position(index)) >= 0]
        return [index for index, _ in pairs], [position for _, position in pairs]

    def flags(self, position: int) -> bytes:
        """The flags of the message at a position of the columns, in parentheses."""
        columns = self.columns
        recent = bool(self._recent) and self.is_recent(columns.uids[position])
        bits = columns.accounts[self.account].bits[position]
        return b"(%b)" % columns.flag_sets.text(columns.sets[position], bits, recent)

    def flags_of_many(self, positions: Sequence[int]) -> list[bytes]:
        """The same for many, in less time each."""
        if self._recent:
            return [self.flags(position) for position in positions]
        columns, text = self.columns, self.columns.flag_sets.text
        sets, bits = columns.sets, columns.accounts[self.account].bits
        return [b"(%b)" % text(sets[p], bits[p], recent=False) for p in positions]

    def flag_lines(self) -> Iterator[bytes]:
        """The FLAGS response with all keywords in use."""
        words = [b"\\Answered", b"\\Flagged", b"\\Deleted", b"\\Seen", b"\\Draft"]
        words += sorted(self.columns.flag_sets.keywords.values())
        self._keywords_known = len(self.columns.flag_sets.keywords)
        yield b"* FLAGS (%b)\r\n" % b" ".join(words)

    def news(self, *, expunge: bool, uid: bool = False, told: Iterable[int] = ()) -> Iterator[bytes]:
        """The untagged responses that bring the client up to date.

        `expunge` says whether sequence numbers may change now; `told` are UIDs whose flags it has just been
        sent; `uid` adds UIDs to FETCH responses.
        """
        columns = self.columns
        if len(columns.flag_sets.keywords) != self._keywords_known:
            yield from self.flag_lines()
        if expunge and self.generation != columns.generation:
            yield from self._expunges()
        yield from self._arrivals()
        yield from self._flag_changes(uid, set(told))

    def _expunges(self) -> Iterator[bytes]:
        logged = self.columns.removed.since(self._removals_known)
        if logged is None:
            now = set(self.columns.uids)
            gone = [at for at in range(self.count) if self.uids[at] not in now]
        else:
            gone = sorted(at for uid, _ in logged if (at := self.index(uid)) >= 0)
        last = self.uids[self.count - 1] if self.count else 0
        self.uids = self.columns.uids
        self.count = bisect_right(self.uids, last)
        self.generation = self.columns.generation
        self._removals_known = self.columns.removed.total
        for at in reversed(gone):
            yield b"* %d EXPUNGE\r\n" % (at + 1)

    def _arrivals(self) -> Iterator[bytes]:
        if self.generation == self.columns.generation:
            grown = len(self.columns)
            if grown == self.count:
                return
            self.count = grown
        else:  # numbers may not change yet, but new ones may be added at the end of our own copy
            last = self.uids[self.count - 1] if self.count else 0
            new = self.columns.uids[bisect_right(self.columns.uids, last) :]
            if not new:
                return
            self.uids = self.uids[: self.count] + new
            self.count = len(self.uids)
        self._claim_recent()
        yield b"* %d EXISTS\r\n* %d RECENT\r\n" % (self.count, self.recent)

    def _flag_changes(self, uid: bool, told: set[int]) -> Iterator[bytes]:
        log = self.columns.changed
        if log.total == self._changes_known:
            return
        logged = log.since(self._changes_known)
        self._changes_known = log.total
        changed = {u for u, account in (log.tail() if logged is None else logged) if account in ("", self.account)}
        for one in sorted(changed - told):
            at, position = self.index(one), self.columns.position(one)
            if at >= 0 and position >= 0:
                prefix = b"UID %d " % one if uid else b""
                yield b"* %d FETCH (%bFLAGS %b)\r\n" % (at + 1, prefix, self.flags(position))
