"""One message between its final dot and its sender's answer: what is known so far, and when that is enough.

Three things happen to a job in any order: the journal says that the record is durable (or not), the handler's outcome
comes, the deadline passes. At each, `proxy.outcome.decide` is asked anew; the first answer it gives is the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxy.journal import JournalError
from proxy.outcome import Outcome, Own, Policy, decide
from proxy.types import Reply
from proxy.upstream.pool import Ticket


class Job:
    """All on one loop. `concluded` is called once, as soon as both answer and outcome are there.

    `durable` is None while the record is pending, then whether it is safe. `answer` resolves with the sender's reply;
    `told` is its code then, else 0. `heard` resolves when it is known whether the sender got that.
    """

    __slots__ = (
        "_concluded",
        "_policy",
        "answer",
        "committed",
        "digest",
        "durable",
        "gone",
        "heard",
        "id",
        "journalled",
        "late",
        "outcome",
        "received_ns",
        "recipients",
        "size_bytes",
        "ticket",
        "told",
    )

    def __init__(self, ident: str, policy: Policy, concluded: Callable[[Job, Outcome], None]) -> None:
        loop = asyncio.get_running_loop()
        self.id = ident
        self.digest = b""
        self.received_ns = 0
        self.size_bytes = 0
        self.recipients = 0
        self.gone: Callable[[], bool] = bool
        self.committed: asyncio.Future[int] | None = None
        self.durable: bool | None = None
        self.late = False
        self.outcome: Outcome | None = None
        self.ticket = Ticket()
        self.told = 0
        self.answer: asyncio.Future[Reply] = loop.create_future()
        self.heard: asyncio.Future[bool] = loop.create_future()
        self.journalled: asyncio.Future[bool] = loop.create_future()  # False too if it takes beyond the deadline
        self._policy = policy
        self._concluded = concluded

    def on_record(self, committed: asyncio.Future[int]) -> None:
        """The journal has it, or cannot take it."""
        self.durable = not committed.cancelled() and committed.exception() is None
        if not self.journalled.done():
            self.journalled.set_result(self.durable)
        self._weigh()

    def on_outcome(self, outcome: Outcome) -> None:
        """The attempt has ended."""
        self.outcome = outcome
        if self.answer.done():
            self._concluded(self, outcome)
        else:
            self._weigh()

    def on_deadline(self) -> None:
        """The sender has waited long enough."""
        self.late = True
        if not self.journalled.done():
            self.journalled.set_result(False)
        self._weigh()

    def settle(self, reply: Reply) -> None:
        """Give this answer, if none has been given yet."""
        if self.answer.done():
            return
        self.told = reply.code
        self.answer.set_result(reply)
        if self.outcome is not None:
            self._concluded(self, self.outcome)
        else:
            self.ticket.give_up()

    def error(self) -> str:
        """Why the record is not durable, "" if it is, or may still become so."""
        if self.durable is not False or self.committed is None:
            return ""
        error = self.committed.exception()
        return str(error) if isinstance(error, JournalError) else type(error).__name__

    def _weigh(self) -> None:
        if self.answer.done():
            return
        answer = decide(durable=self.durable, outcome=self.outcome, late=self.late, policy=self._policy)
        if isinstance(answer, Own):
            self.settle(queued(self.id))
        elif answer is not None:
            self.settle(answer)


def queued(ident: str) -> Reply:
    """Our own 250."""
    return Reply(250, (b"2.0.0 Ok: queued as " + ident.encode("ascii"),))
