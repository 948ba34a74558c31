"""Duplicates that we caused: a sender that never got our reply sends the same bytes again.

Such a resend gets the reply that the first copy would have got, and no second record. Three places know of first
copies: the messages whose sender has gone while they are being handled, the journal's `unanswered` set (kept over
crashes), and, for what the journal could not take, a small memory here. One first copy stands for one resend: while
that is being answered, and once it has been, the next identical submission is a new message. It would have reached
the handler twice without us.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from prometheus_client import Counter

from proxy.job import Job, queued
from proxy.journal import JournalWriter, Mark
from proxy.types import Incoming, Reply

SUPPRESSED = Counter("bouncetap_proxy_duplicates_suppressed", "Resends that we caused and did not forward again")
REMEMBERED = 10_000
HEARD_WITHIN_S = 5.0  # a session asks its socket for a second

log = structlog.get_logger("proxy")


def digest_of(message: Incoming) -> bytes:
    """The identity of a byte-identical resend: SHA-256 over MAIL and RCPT arguments and wire bytes."""
    found = hashlib.sha256()
    found.update(b"%d %d\n%b\n" % (len(message.rcpt_args), len(message.wire), message.mail_arg))
    for arg in message.rcpt_args:
        found.update(b"%b\n" % arg)  # no argument contains LF
    found.update(message.wire)
    return found.digest()


@dataclass(slots=True)
class _Claim:
    """A first copy whose resend is being answered; `gone` asks after each sender of one that has not heard yet."""

    digest: bytes
    gone: list[Callable[[], bool]] = field(default_factory=list)


class Duplicates:
    """Knows every message until its session has said whether the sender got its answer, and marks that."""

    def __init__(self, journal: JournalWriter) -> None:
        self._journal = journal
        self._jobs: dict[str, Job] = {}
        self._by_digest: dict[bytes, list[Job]] = {}
        self._resends: dict[str, _Claim] = {}  # by the first copy's id
        self._unheard: OrderedDict[bytes, Reply] = OrderedDict()  # for messages without a record

    def watch(self, job: Job) -> None:
        """A message is being handled."""
        self._jobs[job.id] = job
        self._by_digest.setdefault(job.digest, []).append(job)

    def forget(self, job: Job, *, heard: bool = True) -> None:
        """Its resend will be a new message, or has to be found in the journal."""
        if not job.heard.done():
            job.heard.set_result(heard)
        self._jobs.pop(job.id, None)
        same = self._by_digest.get(job.digest, [])
        if job in same:
            same.remove(job)
        if not same:
            self._by_digest.pop(job.digest, None)

    def unheard(self, digest: bytes, reply: Reply) -> None:
        """The sender has gone without this reply to a message that has no record."""
        self._unheard[digest] = reply
        if len(self._unheard) > REMEMBERED:
            self._unheard.popitem(last=False)

    async def answer(self, digest: bytes, gone: Callable[[], bool] = bool) -> tuple[Reply, str] | None:
        """The answer (and the first copy's id) to a resend of what never was answered; None if this is none.

        `gone` tells whether this sender has left, too.
        """
        for first in tuple(self._by_digest.get(digest, ())):  # others come and go while we wait
            if first.gone() and not self._claimed(first.id):
                reply = await asyncio.shield(first.answer)
                # Half closed is not gone: whether it heard is known once its session has seen its socket.
                await asyncio.wait({first.heard}, timeout=HEARD_WITHIN_S)
                heard = first.heard.done() and first.heard.result()
                if not heard and not self._claimed(first.id):
                    return self._again(first.id, digest, gone, reply)
        hit = self._journal.was_unanswered(digest)
        if hit and not self._claimed(hit.id):
            reply = Reply(hit.code, (hit.text.encode("utf-8", "replace"),)) if hit.code >= 500 else queued(hit.id)
            return self._again(hit.id, digest, gone, reply)
        untapped = self._unheard.pop(digest, None)
        if untapped is None:
            return None
        SUPPRESSED.inc()
        return untapped, ""

    def _claimed(self, ident: str) -> bool:
        """Whether somebody who is still there is hearing this first copy's answer: it is not for two."""
        claim = self._resends.get(ident)
        return claim is not None and not all(gone() for gone in claim.gone)

    def _again(self, ident: str, digest: bytes, gone: Callable[[], bool], reply: Reply) -> tuple[Reply, str]:
        SUPPRESSED.inc()
        log.info("duplicate_suppressed", id=ident, code=reply.code)
        self._resends.setdefault(ident, _Claim(digest)).gone.append(gone)
        return reply, ident

    def answered(self, ident: str, code: int) -> None:
        """The sender got its reply."""
        job = self._jobs.get(ident)
        if job is not None:
            self.forget(job)
        claim = self._resends.pop(ident, None)
        if claim is not None:
            self._journal.resend_answered(claim.digest)
        self._journal.note(Mark(ident, time.time_ns(), answered=code))

    def unanswered(self, ident: str) -> None:
        """The sender has gone without its reply: its resend is a duplicate that we caused."""
        job = self._jobs.get(ident)
        if job is None:  # a resend's own reply got lost too, or the first copy's resend has been answered meanwhile
            self._unclaim(ident)
            return
        self.forget(job, heard=False)
        self._journal.note(Mark(ident, time.time_ns(), answered=0))

    def _unclaim(self, ident: str) -> None:
        """One of those who were hearing this first copy's answer has gone; the others still are."""
        claim = self._resends.get(ident)
        if claim is None:
            return
        claim.gone.remove(next((gone for gone in claim.gone if gone()), claim.gone[0]))
        if not claim.gone:
            del self._resends[ident]
