"""Decision tables, pure: what a handler's replies mean for each recipient, and what the sender is told.

The words: a recipient's *decisive* reply is the one that settled it: MAIL's if that was refused, else its RCPT's if
that was refused, else DATA's or the dot's; a RCPT's 552 beside others that were taken counts as 452. 2xx: the handler
has it. 5xx: refused. 4xx, or none at all: open.

What the sender is told (`decide`):

    record     handler                  in time       late
    pending    nothing yet              wait          wait
    pending    something                wait          as if there were no record
    durable    nothing yet              wait          our 250
    durable    any 2xx                  that reply    (our 250 was given)
    durable    none, any 4xx or open    our 250; under `on_tempfail = "pass"` the first 4xx, if there is one
    durable    all 5xx                  the first
    none       nothing yet              wait          wait
    none       2xx, or 2xx and 5xx      that 2xx
    none       2xx, and any 4xx/open    451: nobody would keep the message for those
    none       none, any 4xx            the first 4xx
    none       none, any open           451
    none       all 5xx                  the first

A 421 is never passed on as such: 451 with its text, where a 4xx is passed at all.

What becomes of a recipient then (`fates`): 2xx forwarded; 5xx rejected if that is what the sender was told, else
dead; else in doubt if the handler may have it, else open.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from proxy.journal.records import Fate
from proxy.types import Reply
from proxy.upstream.client import Said

_WORD = re.compile(r"[^\s<>]+")

LATER = Reply(451, (b"4.3.0 The mail handler cannot take this now, try again later",))
NO_JOURNAL = Reply(452, (b"4.3.1 Cannot store mail now, try again later",))
NOT_CAPABLE = Reply(550, (b"5.6.7 No handler takes internationalized mail (SMTPUTF8)",))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt came to: a decisive reply (2xx, 4xx, 5xx) for each recipient tried, None where none came.

    `host` is whose replies these are ("" if no host was reached). `in_doubt`: where there is no reply, the handler
    may have the message all the same. `unreached`: no transaction was begun, every host is down or busy. `incapable`:
    none offers SMTPUTF8, which it needs. `error` is one line on what went wrong, "" if nothing did. `seconds` is how
    long the transaction took.
    """

    said: tuple[Reply | None, ...]
    host: str = ""
    in_doubt: bool = False
    unreached: bool = False
    incapable: bool = False
    error: str = ""
    seconds: float = 0.0

    @property
    def accepted(self) -> bool:
        """True if the handler took the message for anybody."""
        return any(reply is not None and reply.code < 300 for reply in self.said)

    @property
    def refused_421(self) -> bool:
        """True if the host said that it is going down."""
        return any(reply is not None and reply.code == 421 for reply in self.said)

    @property
    def open(self) -> bool:
        """True if anybody is without a 2xx or 5xx."""
        return any(reply is None or 400 <= reply.code < 500 for reply in self.said)


@dataclass(frozen=True, slots=True)
class Policy:
    """`on_tempfail = "pass"` makes `pass_tempfail` true."""

    pass_tempfail: bool = False


class Own:
    """The answer is our own 250: the message is ours to deliver."""


WAIT = None
OWN = Own()


def decisive(said: Said, recipients: int) -> tuple[Reply, ...]:
    """The reply that settled each of `recipients`."""
    if said.mail.code >= 400:
        return (said.mail,) * recipients
    end = said.end or LATER
    taken = end.code < 300 and any(reply.code < 300 for reply in said.rcpts)
    return tuple(end if reply.code < 300 else _later(reply) if taken else reply for reply in said.rcpts)


def _later(reply: Reply) -> Reply:
    """552 to one RCPT among others that were taken means "not so many at once" (RFC 5321 section 4.5.3.1.10)."""
    return Reply(452, reply.lines) if reply.code == 552 else reply


def decide(*, durable: bool | None, outcome: Outcome | None, late: bool, policy: Policy) -> Reply | Own | None:
    """The sender's answer, or WAIT. `durable` is None while the journal is at it, False once it has failed.

    See the table in the module's docstring.
    """
    if durable is None and not late:
        return WAIT
    if outcome is None:
        return OWN if durable and late else WAIT
    tempfail = next((reply for reply in outcome.said if reply is not None and 400 <= reply.code < 500), None)
    first = next((reply for reply in outcome.said if reply is not None), None)
    accepted = next((reply for reply in outcome.said if reply is not None and reply.code < 300), None)
    if not outcome.open:
        return accepted or first or LATER
    if durable:
        if accepted is not None:
            return accepted
        return _passable(tempfail) if tempfail is not None and policy.pass_tempfail else OWN
    return LATER if tempfail is None or accepted is not None else _passable(tempfail)


def _passable(tempfail: Reply) -> Reply:
    return Reply(451, tempfail.lines) if tempfail.code == 421 else tempfail


def fates(outcome: Outcome, *, told: int) -> tuple[Fate, ...]:
    """What becomes of each recipient, where the sender was `told` this code (0: not yet or never anything)."""
    return tuple(_fate(reply, outcome, told) for reply in outcome.said)


def _fate(reply: Reply | None, outcome: Outcome, told: int) -> Fate:
    if reply is None or 400 <= reply.code < 500:
        return Fate.IN_DOUBT if outcome.in_doubt and reply is None else Fate.OPEN
    if reply.code < 300:
        return Fate.FORWARDED
    return Fate.REJECTED if told >= 500 else Fate.DEAD


def grouped(fates_: Sequence[Fate], said: Sequence[Reply | None]) -> dict[tuple[Fate, int, str], list[int]]:
    """Recipients (positions) by fate, code and first line of text: one mark each."""
    groups: dict[tuple[Fate, int, str], list[int]] = {}
    for position, (fate, reply) in enumerate(zip(fates_, said, strict=True)):
        key = (fate, reply.code if reply else 0, first_line(reply) if reply else "")
        groups.setdefault(key, []).append(position)
    return groups


def unaddressed(text: str) -> str:
    """What a handler said, fit for a log: without the addresses that it may quote."""
    return _WORD.sub(lambda word: "..." if "@" in word[0] else word[0], text)


def first_line(reply: Reply) -> str:
    """The reply's text, its first line."""
    return reply.lines[0].decode("utf-8", "backslashreplace") if reply.lines else ""
