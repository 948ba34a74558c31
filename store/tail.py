"""The journal's tail: which messages have been decided since, and what has become of those already filed.

An entry waits until its `answered` mark has been read; only its place and its marks stay in memory (its body too
while there is room). A stream's cursor stands at its earliest waiting entry; entries behind that which are dealt with
are named in `ahead`, so that nothing is filed again after a restart, not even what was expunged meanwhile. Marks may
be read again: they change nothing the second time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from proxy.journal.reader import Item, JournalReader, StreamReader
from proxy.journal.records import Entry, Mark
from store.filing import Cursor
from store.outcomes import Outcomes

BODIES_KEPT_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Decided:
    """A message to be filed, with all that is known of it now."""

    entry: Entry
    outcomes: Outcomes


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step of filing takes: new messages, later marks, and where the cursors stand when it is committed."""

    decided: list[Decided]
    marks: list[Mark]
    cursors: dict[str, Cursor]

    def __bool__(self) -> bool:
        return bool(self.decided or self.marks or self.cursors)


@dataclass(slots=True)
class _Waiting:
    stream: str
    lsn: int
    entry: Entry
    kept_bytes: int
    whole: bool  # whether `entry` has its body
    outcomes: Outcomes


class Tail:
    """Reads on from `cursors`. Not thread-safe. `forgiving`: what the disk cannot read is passed over as damage."""

    def __init__(self, journal: Path, cursors: Mapping[str, Cursor], *, forgiving: bool = False) -> None:
        self._journal = journal
        self._forgiving = forgiving
        self.reader = JournalReader(journal, forgiving=forgiving)
        self._published = dict(cursors)
        self._ahead = {stream: set(cursor.ahead) for stream, cursor in cursors.items()}
        self._waiting: dict[str, _Waiting] = {}  # for the sender's answer
        self._ready: dict[str, _Waiting] = {}  # decided, for their turn
        self._late: list[Mark] = []
        self._kept_bytes = 0
        for stream, cursor in cursors.items():
            self.reader.seek(stream, cursor.lsn)

    def close(self) -> None:
        """Gives the descriptors back."""
        self.reader.close()

    @property
    def undecided(self) -> int:
        """How many entries wait for their `answered` mark."""
        return len(self._waiting)

    def take(self, max_messages: int, max_bytes: int) -> Batch:
        """What is new: empty if nothing is. Raises OSError, after which the tail must be made anew.

        The caller files the batch before it takes the next.
        """
        while not (batch := self._served(max_messages, max_bytes)):
            items = self.reader.poll(max_messages * 3, max_bytes)
            if not items:
                break
            for item in items:
                if isinstance(item.record, Entry):
                    self._entered(item, item.record)
                else:
                    self._marked(item.record)
        return batch

    def _entered(self, item: Item, entry: Entry) -> None:
        if entry.copied_from or item.lsn in self._ahead.get(item.stream, ()):
            return
        outcomes = Outcomes(len(entry.rcpt_args), refused=entry.refused)
        waiting = _Waiting(item.stream, item.lsn, entry, len(entry.wire), True, outcomes)
        if self._kept_bytes + waiting.kept_bytes > BODIES_KEPT_BYTES:
            waiting = _Waiting(item.stream, item.lsn, replace(entry, wire=b""), 0, False, outcomes)
        self._kept_bytes += waiting.kept_bytes
        (self._ready if entry.refused else self._waiting)[entry.id] = waiting

    def _marked(self, mark: Mark) -> None:
        waiting = self._ready.get(mark.id) or self._waiting.get(mark.id)
        if waiting is None:
            if mark.fate is not None or mark.answered is not None:
                self._late.append(mark)
            return
        waiting.outcomes = waiting.outcomes.after(mark)
        if waiting.outcomes.answered is None or mark.id in self._ready:
            return
        del self._waiting[mark.id]
        if waiting.outcomes.passed:
            self._let_go(waiting)
        else:
            self._ready[mark.id] = waiting

    def _let_go(self, waiting: _Waiting) -> None:
        self._kept_bytes -= waiting.kept_bytes
        self._ahead.setdefault(waiting.stream, set()).add(waiting.lsn)

    def _served(self, max_messages: int, max_bytes: int) -> Batch:
        """As many of those that are ready as a batch takes."""
        decided: list[Decided] = []
        size = 0
        for ident in list(islice(self._ready, max_messages)):
            waiting = self._ready.pop(ident)
            self._let_go(waiting)
            entry = self._whole(waiting)
            decided.append(Decided(entry, waiting.outcomes))
            size += len(entry.wire)
            if size > max_bytes:
                break
        late, self._late = self._late, []
        return Batch(decided, late, self._moved_cursors())

    def _whole(self, waiting: _Waiting) -> Entry:
        """The entry with its body, read again where it was not kept."""
        if waiting.whole:
            return waiting.entry
        again = StreamReader(self._journal / waiting.stream, waiting.lsn, forgiving=self._forgiving)
        try:
            for item in again.poll(1, 1):
                if isinstance(item.record, Entry) and item.record.id == waiting.entry.id:
                    return item.record
        finally:
            again.close()
        raise OSError(f"journal entry {waiting.entry.id} cannot be read again")

    def _moved_cursors(self) -> dict[str, Cursor]:
        lows: dict[str, int] = {}
        for waiting in chain(self._waiting.values(), self._ready.values()):
            lows[waiting.stream] = min(waiting.lsn, lows.get(waiting.stream, waiting.lsn))
        moved = {}
        for stream in self.reader.streams():
            lsn = lows.get(stream, self.reader.position(stream))
            ahead = {at for at in self._ahead.get(stream, ()) if at >= lsn}
            self._ahead[stream] = ahead
            cursor = Cursor(lsn, tuple(sorted(ahead)))
            if cursor != self._published.get(stream, Cursor(0)):
                moved[stream] = self._published[stream] = cursor
        for gone in self._published.keys() - set(self.reader.streams()):
            del self._published[gone]
            self._ahead.pop(gone, None)
        return moved
