"""What became of a message, written down: marks in the journal, counters, dead letters."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from prometheus_client import Counter

from proxy.journal import Fate, JournalWriter, Mark
from proxy.outcome import Outcome, fates, first_line, grouped

FATES = {
    Fate.FORWARDED: Counter("bouncetap_proxy_forwarded", "Messages that the handler took"),
    Fate.REJECTED: Counter("bouncetap_proxy_rejected", "Messages that the handler refused, as the sender was told"),
    Fate.DEAD: Counter("bouncetap_proxy_dead", "Messages that the handler refused after the sender had its 250"),
    Fate.IN_DOUBT: Counter(
        "bouncetap_proxy_in_doubt", "Messages whose connection was lost between the dot and the reply"
    ),
    Fate.DROPPED: Counter("bouncetap_proxy_dropped", "Messages given up by an operator"),
}
DEAD_KEPT = 1000

log = structlog.get_logger("proxy")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that the handler refused too late. `reply` is the handler's, code and first line."""

    id: str
    received_ns: int
    size_bytes: int
    recipients: int
    reply: str


class Marks:
    """Writes outcomes into `journal`. `dead` holds the latest dead letters of this life; the quarantine has all."""

    def __init__(self, journal: JournalWriter) -> None:
        self.dead: deque[DeadLetter] = deque(maxlen=DEAD_KEPT)
        self.dead_count = 0
        self._journal = journal

    def outcome(
        self, ident: str, received_ns: int, size_bytes: int, rcpts: Sequence[int], outcome: Outcome, *, told: int
    ) -> tuple[tuple[int, ...], bool]:
        """Write down what an attempt for `rcpts` (indices) came to; returns those still open, and if in doubt.

        `told` is what the sender was answered. Recipients that nobody replied about, and that are not in doubt, get
        no mark: nothing is known that was not before.
        """
        found = fates(outcome, told=told)
        now_ns = time.time_ns()
        for (fate, code, text), positions in grouped(found, outcome.said).items():
            if fate is Fate.OPEN and code == 0:
                continue
            concerned = tuple(rcpts[position] for position in positions)
            self._journal.note(Mark(ident, now_ns, concerned, fate, code, text, outcome.host))
            if fate is Fate.DEAD:
                self._bury(DeadLetter(ident, received_ns, size_bytes, len(concerned), f"{code} {text}"), outcome.host)
        for fate in set(found):
            if fate in FATES:
                FATES[fate].inc()
        pairs = zip(rcpts, found, strict=True)
        left = tuple(rcpt for rcpt, fate in pairs if fate in {Fate.OPEN, Fate.IN_DOUBT})
        return left, Fate.IN_DOUBT in found

    def dropped(self, ident: str, rcpts: Sequence[int]) -> None:
        """An operator gave these recipients up."""
        self._journal.note(Mark(ident, time.time_ns(), tuple(rcpts), Fate.DROPPED))
        FATES[Fate.DROPPED].inc()

    def _bury(self, letter: DeadLetter, host: str) -> None:
        self.dead_count += 1
        self.dead.append(letter)
        log.warning("dead_letter", id=letter.id, host=host, code=int(letter.reply[:3]), recipients=letter.recipients)

    def dead_rows(self) -> list[dict[str, Any]]:
        """The latest dead letters, oldest first, JSON-able."""
        now_ns = time.time_ns()
        return [
            {
                "id": letter.id,
                "age_s": round((now_ns - letter.received_ns) / 1e9, 1),
                "size_bytes": letter.size_bytes,
                "recipients": letter.recipients,
                "state": "dead",
                "last_reply": letter.reply,
            }
            for letter in self.dead
        ]


def last_reply(outcome: Outcome) -> str:
    """One line for an operator on why it is still here."""
    reply = next((reply for reply in outcome.said if reply is not None and reply.code >= 400), None)
    return f"{reply.code} {first_line(reply)}" if reply is not None else outcome.error
