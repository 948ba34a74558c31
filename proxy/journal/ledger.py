"""What is still open, in memory: a few hundred bytes an entry, none once it is settled, bodies never.

The ledger applies entries and marks in the order in which they were appended, live or from a scan after a crash, and
knows for each segment which unsettled entries it holds: that is what decides whether the segment may go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from proxy.journal.records import FINAL, Entry, Fate, Mark, OpenEntry


class Outcome(NamedTuple):
    """The last word on one recipient."""

    fate: Fate
    code: int
    text: str
    host: str


@lru_cache(maxsize=4096)
def _outcome(fate: Fate, code: int, text: str, host: str) -> Outcome:
    return Outcome(fate, code, text, host)  # shared: a handler that is down says the same of all


UNTRIED = _outcome(Fate.OPEN, 0, "", "")


class State:
    """One unsettled entry. `stream`, `seq` and `lsn` say where it is; `lsn` is -1 until it is durable.

    `open`: a recipient still waits for a final word.
    """

    __slots__ = (
        "answered",
        "copied",
        "digest",
        "id",
        "lsn",
        "open",
        "outcomes",
        "received_ns",
        "route",
        "seq",
        "settled",
        "size_bytes",
        "stream",
    )

    def __init__(self, entry: Entry, stream: str) -> None:
        self.id = entry.id
        self.digest = entry.digest
        self.received_ns = entry.received_ns
        self.size_bytes = len(entry.wire)
        self.outcomes: tuple[Outcome, ...] = (UNTRIED,) * len(entry.rcpt_args)
        self.answered: int | None = None
        self.copied = bool(entry.copied_from)
        self.stream = stream
        self.route = stream  # where its next marks go: differs while a copy is being written
        self.lsn = -1
        self.seq = -1
        self.open = bool(self.outcomes)
        self.settled = False

    @property
    def passed(self) -> bool:
        """Whether the sender kept it: it was answered 4xx."""
        return self.answered is not None and 400 <= self.answered < 500

    def refusal(self) -> tuple[int, str]:
        """The (code, text) that a byte-identical resend gets: the handler's 5xx if it refused every recipient."""
        if self.outcomes and all(outcome.fate is Fate.REJECTED for outcome in self.outcomes):
            return self.outcomes[0].code, self.outcomes[0].text
        return 0, ""

    def marks(self, at_ns: int) -> Iterator[Mark]:
        """Marks that, after a bare copy of the entry, bring it to this state again."""
        groups: dict[Outcome, list[int]] = {}
        for index, outcome in enumerate(self.outcomes):
            if outcome is not UNTRIED:
                groups.setdefault(outcome, []).append(index)
        for (fate, code, text, host), rcpts in groups.items():
            yield Mark(self.id, at_ns, tuple(rcpts), fate, code, text, host)
        if self.answered is not None:
            yield Mark(self.id, at_ns, answered=self.answered)

    def moved(self, at_ns: int) -> Mark:
        """The mark that tells the original's stream where its copy, this state's entry, is."""
        return Mark(self.id, at_ns, moved_to=f"{self.lsn}:{self.stream}")

    def snapshot(self) -> OpenEntry:
        """What others may know of it."""
        fates, hosts = zip(*((outcome.fate, outcome.host) for outcome in self.outcomes), strict=True)
        return OpenEntry(
            self.id, self.received_ns, self.size_bytes, fates, hosts, self.answered, lsn=self.lsn, stream=self.stream
        )

    def apply(self, mark: Mark) -> None:
        """The last word wins; what names a recipient that is not there is passed over."""
        if mark.fate is not None:
            outcome = _outcome(mark.fate, mark.code, mark.text, mark.host)
            outcomes = list(self.outcomes)
            for rcpt in mark.rcpts:
                if rcpt < len(outcomes):
                    outcomes[rcpt] = outcome
            self.outcomes = tuple(outcomes)
        if mark.answered is not None:
            self.answered = mark.answered
        self._weigh()

    def inherit(self, older: State) -> None:
        """Take over what is known of the entry that this is a copy of, where nothing later is known.

        The copy's marks say it all again, but a power loss may keep the copy and tear its marks.
        """
        if len(older.outcomes) == len(self.outcomes):
            pairs = zip(self.outcomes, older.outcomes, strict=True)
            self.outcomes = tuple(theirs if ours is UNTRIED else ours for ours, theirs in pairs)
        if self.answered is None:
            self.answered = older.answered
        self._weigh()

    def _weigh(self) -> None:
        self.open = any(outcome.fate not in FINAL for outcome in self.outcomes)
        self.settled = self.answered is not None and (self.passed or not self.open)


class Ledger:
    """Unsettled entries by id, and by the segment that holds them. One thread at a time.

    `open` and `undecided` count those with a recipient that waits, and those whose sender has no answer yet.
    """

    def __init__(self) -> None:
        self.states: dict[str, State] = {}
        self.open = self.undecided = 0
        self._segments: dict[tuple[str, int], set[str]] = {}
        self._live_bytes: Counter[str] = Counter()

    def add(self, entry: Entry, stream: str) -> State | None:
        """An entry was appended; None if it is settled from the start (refused by us). A copy replaces."""
        older = self.states.get(entry.id)
        self.forget(entry.id)
        if entry.refused:
            return None
        state = State(entry, stream)
        if older is not None and state.copied:
            state.inherit(older)
        self._enter(state)
        return state

    def adopt(self, state: State) -> None:
        """Take over a durable state of another ledger."""
        self._enter(state)
        self.place(state, state.stream, state.seq, state.lsn)

    def place(self, state: State, stream: str, seq: int, lsn: int) -> None:
        """The entry is durable there, and no longer where it was."""
        self._leave(state)
        state.stream, state.route, state.seq, state.lsn = stream, stream, seq, lsn
        if not state.settled:
            self._segments.setdefault((stream, seq), set()).add(state.id)
            self._live_bytes[stream] += state.size_bytes

    def apply(self, mark: Mark) -> State | None:
        """A mark was appended; its entry's state, None if that was settled already, or never known."""
        state = self.states.get(mark.id)
        if state is not None:
            self._count(state, -1)
            state.apply(mark)
            self._count(state, 1)
            if state.settled:
                self.forget(mark.id)
        return state

    def forget(self, ident: str) -> None:
        """Settled, moved away, or never written after all."""
        state = self.states.pop(ident, None)
        if state is not None:
            self._count(state, -1)
            self._leave(state)

    def pinned_by(self, stream: str, seq: int) -> set[str]:
        """Ids of the unsettled entries in a segment."""
        return self._segments.get((stream, seq), set())

    def holds(self, stream: str) -> bool:
        """Whether any unsettled entry is in a stream."""
        return any(name == stream for name, _ in self._segments)

    def live_bytes(self, stream: str) -> int:
        """Size of the unsettled entries in a stream."""
        return self._live_bytes[stream]

    def _enter(self, state: State) -> None:
        self.states[state.id] = state
        self._count(state, 1)

    def _count(self, state: State, by: int) -> None:
        self.open += by * state.open
        self.undecided += by * (state.answered is None)

    def _leave(self, state: State) -> None:
        ids = self._segments.get((state.stream, state.seq))
        if ids is not None and state.id in ids:
            ids.remove(state.id)
            self._live_bytes[state.stream] -= state.size_bytes
            if not ids:
                del self._segments[state.stream, state.seq]
