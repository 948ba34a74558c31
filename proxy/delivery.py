"""The hybrid: every message goes to the journal and to the handler at the same time.

The sender is answered when the record is durable AND (the handler has replied OR the deadline has passed).

`Delivery` is what `proxy/server.py` hands messages to. The answer is found by a `Job` and the tables in
`proxy/outcome.py`; what the handler does not have by then is the spool's. A forward runs in its own task, and nothing
cancels it but the end of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from typing import Any

import structlog
from prometheus_client import Counter, Histogram

from proxy.commands import Commands
from proxy.cpu import in_thread
from proxy.duplicates import Duplicates, digest_of
from proxy.job import Job, queued
from proxy.journal import Entry, JournalWriter, Mark, new_id
from proxy.loops import LoopGuard
from proxy.marks import Marks, last_reply
from proxy.outcome import LATER, NO_JOURNAL, Outcome, Policy, unaddressed
from proxy.parcels import parcel_of
from proxy.settings import ProxySettings
from proxy.spool import Spool, Spooled
from proxy.types import Capabilities, Incoming, Reply
from proxy.upstream.hosts import Hosts

SPOOLED = Counter("bouncetap_proxy_spooled", "Messages answered 250 that the handler did not have by then")
UNTAPPED = Counter("bouncetap_proxy_untapped", "Messages that went on without a record: the journal failed")
DEFERRED = Counter("bouncetap_proxy_deferred", "Messages answered 4xx by us: no durable record, and no handler")
LOOP_ALARMS = Counter("bouncetap_proxy_loop_alarms", "The same message more than 5 times within 10 minutes")
ADDED = Histogram(
    "bouncetap_proxy_added_seconds",
    "What the tap adds: from the dot to the answer, less the handler's own time",
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)

HOUSEKEEPING_S = 1.0
ADOPT_EVERY = 60  # rounds of housekeeping
PROBE_EVERY = 30
STOP_GRACE_S = 5.0  # for transactions under way, and as long again for those cut off
HASH_IN_THREAD_BYTES = 1 << 20

log = structlog.get_logger("proxy")


class Delivery:
    """Takes messages; see `proxy.types.Deliver` and `proxy.server.DeliverPart`."""

    def __init__(self, settings: ProxySettings, journal: JournalWriter) -> None:
        """`journal` is open, and closed by whoever opened it, after `stop`. Raises StartError."""
        legacy = settings.legacy
        self._settings = settings
        self._journal = journal
        self._defer = settings.journal.on_failure == "defer"
        self._policy = Policy(pass_tempfail=legacy.on_tempfail == "pass")
        self._hosts = Hosts(legacy, settings.listen.hostname, settings.state_dir)
        self._marks = Marks(journal)
        self._parcel_of = functools.partial(parcel_of, settings.listen)
        self._spool = Spool(journal, self._hosts, self._marks, legacy, self._parcel_of)
        self._sending: set[str] = set()  # ids, at their first attempt
        self._commands = Commands(self._spool, self._marks, self._hosts, self._sending.__contains__)
        self._duplicates = Duplicates(journal)
        self._loops = LoopGuard(time.monotonic)
        self._waiting: set[Job] = set()  # for their answer
        self._forwards: set[asyncio.Task[None]] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._untapped = 0
        self._last_error = ""

    # -- life

    async def start(self) -> None:
        """Take over what earlier lives left, and replay it; raises StartError."""
        await asyncio.to_thread(self._hosts.known.load)
        await self._adopt()
        self._spool.start()
        for coroutine in (self._housekeep(), self._probe()):
            task = asyncio.get_running_loop().create_task(coroutine)
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    async def stop(self) -> None:
        """Let what runs end, for some seconds; the rest is cut off, and is found in the journal by the next life."""
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._spool.stop()
        await self._settled(STOP_GRACE_S)
        self._hosts.close()
        await self._settled(STOP_GRACE_S)
        for task in list(self._forwards):
            task.cancel()
        await asyncio.gather(*self._forwards, return_exceptions=True)
        for job in list(self._waiting):
            job.settle(queued(job.id) if job.durable else LATER)

    async def _settled(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*self._forwards, return_exceptions=True)
                await self._spool.finished()

    async def _adopt(self) -> None:
        for entry in await self._journal.adopt_orphans():
            self._spool.adopt(Spooled.of(entry))

    async def _housekeep(self) -> None:
        rounds = 0
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            rounds += 1
            try:
                self._hosts.retire()
                self._spool.status()
                await self._journal.housekeep()
                if rounds % ADOPT_EVERY == 0:
                    await self._adopt()
            except Exception as error:  # one bad round must not end all rounds
                log.error("housekeeping_fault", error=f"{type(error).__name__}: {error}")

    async def _probe(self) -> None:
        """Hear what each host offers: the later ones get no mail, and would never be heard."""
        while True:
            await self._hosts.probe()
            await asyncio.sleep(PROBE_EVERY)

    # -- a message

    async def deliver(self, message: Incoming) -> tuple[Reply, str]:
        """Take a message; the sender's reply and the message's id ("" if it has no record)."""
        if len(message.wire) > HASH_IN_THREAD_BYTES:
            digest = await in_thread(digest_of, message)
        else:
            digest = digest_of(message)
        if resend := await self._duplicates.answer(digest, message.gone):
            return resend
        if message.refused:
            return await self._refused(message, digest)
        job = self._begin(message, digest)
        try:
            reply = await asyncio.shield(job.answer)
        except asyncio.CancelledError:
            self.unanswered(job.id)
            raise
        return await self._answerable(job, reply)

    def _begin(self, message: Incoming, digest: bytes) -> Job:
        """Send the message both ways."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        entry = _entry(message, digest)
        job = Job(entry.id, self._policy, self._concluded)
        job.digest, job.received_ns, job.size_bytes = digest, entry.received_ns, len(entry.wire)
        job.recipients, job.gone = len(entry.rcpt_args), message.gone
        self._duplicates.watch(job)
        self._waiting.add(job)
        job.committed = self._journal.append_entry(entry)
        job.committed.add_done_callback(job.on_record)
        deadline = loop.call_later(self._settings.legacy.deadline_s, job.on_deadline)
        job.answer.add_done_callback(lambda _: self._answered_at(job, began, deadline))
        task = loop.create_task(self._forward(job, entry))
        self._forwards.add(task)
        task.add_done_callback(self._forwards.discard)
        return job

    async def _forward(self, job: Job, entry: Entry) -> None:
        """One attempt at the handler; it outlives the sender's answer."""
        outcome = Outcome((None,) * job.recipients, error="internal error")
        self._sending.add(job.id)
        try:
            if self._defer and not await job.journalled:
                job.settle(NO_JOURNAL)
                outcome = Outcome((None,) * job.recipients, unreached=True, error="no durable record")
                return
            began = time.monotonic()
            forced = job.journalled.done() and not job.journalled.result()
            parcel = self._parcel_of(entry, tuple(range(job.recipients)))
            outcome = await self._hosts.send(parcel, job.ticket, self._hosts.claim(), forced=forced)
            log.debug("handler", id=job.id, host=outcome.host, seconds=round(time.monotonic() - began, 4))
        except Exception as error:
            log.error("forward_fault", id=job.id, error=type(error).__name__)
        finally:
            self._sending.discard(job.id)
            job.on_outcome(outcome)

    def _concluded(self, job: Job, outcome: Outcome) -> None:
        """Both the sender's answer and the attempt's outcome are there: write down what follows."""
        if 400 <= job.told < 500:  # the sender keeps the message
            return
        everyone = tuple(range(job.recipients))
        left, in_doubt = self._marks.outcome(job.id, job.received_ns, job.size_bytes, everyone, outcome, told=job.told)
        if not left:
            return
        SPOOLED.inc()
        doubt = outcome.host if in_doubt else ""
        self._last_error = last_reply(outcome)
        why = unaddressed(self._last_error)
        log.info("spooled", id=job.id, host=outcome.host, in_doubt=in_doubt, left=len(left), why=why)
        self._spool.add(Spooled(job.id, job.received_ns, job.size_bytes, left, doubt, self._last_error))

    def _answered_at(self, job: Job, began: float, deadline: asyncio.TimerHandle) -> None:
        deadline.cancel()
        self._waiting.discard(job)
        if job.outcome is not None:
            now = asyncio.get_running_loop().time()
            ADDED.observe(max(0.0, now - began - job.outcome.seconds))

    async def _answerable(self, job: Job, reply: Reply) -> tuple[Reply, str]:
        """What the session is told, once nothing stands in the way of saying it."""
        if 400 <= reply.code < 500:
            self._duplicates.forget(job)
            if job.durable is not False:  # it has a record, or may get one yet
                await self._kept_by_sender(job)
            if job.durable:
                return reply, job.id
            DEFERRED.inc()
            self._complain(job)
            return reply, ""
        if job.durable is False:
            self._duplicates.forget(job)
            self._went_untapped(job)
            if job.gone():
                self._duplicates.unheard(job.digest, reply)
            return reply, ""
        if job.durable is None and job.committed is not None:  # answered without the journal, which may yet have it
            job.committed.add_done_callback(lambda _: None if job.durable else self._went_untapped(job))
        if self._loops.seen(job.digest):
            LOOP_ALARMS.inc()
            log.error("loop_alarm", id=job.id, digest=job.digest.hex()[:16])
        return reply, job.id

    async def _kept_by_sender(self, job: Job) -> None:
        """Before a 4xx is said, the record must say so too: else, after a crash, both sides would own the message."""
        mark = self._journal.append_mark(Mark(job.id, time.time_ns(), answered=job.told))
        with contextlib.suppress(Exception):  # the journal's trouble is told elsewhere
            await asyncio.wait_for(asyncio.shield(mark), self._settings.legacy.deadline_s)

    def _went_untapped(self, job: Job) -> None:
        UNTAPPED.inc()
        self._untapped += 1
        self._complain(job)

    def _complain(self, job: Job) -> None:
        self._last_error = f"journal: {job.error() or 'not durable in time'}"
        log.error("no_record", id=job.id, told=job.told, error=self._last_error)

    async def _refused(self, message: Incoming, digest: bytes) -> tuple[Reply, str]:
        """Our own policy refuses it: the copy is kept as evidence, if the journal can."""
        entry = _entry(message, digest)
        committed = self._journal.append_entry(entry)
        with contextlib.suppress(Exception):
            await asyncio.wait_for(asyncio.shield(committed), self._settings.legacy.deadline_s)
        kept = committed.done() and committed.exception() is None
        return Reply(int(message.refused[:3]), (message.refused[4:].encode("utf-8"),)), entry.id if kept else ""

    def answered(self, id: str, code: int) -> None:  # noqa: A002  the journal's own name for it
        """The sender got its reply."""
        self._duplicates.answered(id, code)

    def unanswered(self, id: str) -> None:  # noqa: A002  the journal's own name for it
        """The sender has gone without its reply: its resend is a duplicate that we caused."""
        self._duplicates.unanswered(id)

    # -- what others ask

    def capabilities(self) -> Capabilities:
        """What EHLO may offer."""
        return self._hosts.capabilities()

    def status(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "hosts": [host.status() for host in self._hosts.all],
            "forwarding": len(self._forwards),
            "spool": self._spool.status(),
            "dead": self._marks.dead_count,
            "untapped": self._untapped,
            "loop_alarms": self._loops.alarms,
            "last_error": self._last_error,
            "journal": self._journal.status(),
        }

    async def command(self, name: str, args: dict[str, Any]) -> dict[str, Any]:
        """Obey an operator; raises CommandError."""
        return await self._commands.obey(name, args)


def _entry(message: Incoming, digest: bytes) -> Entry:
    return Entry(
        id=new_id(),
        received_ns=message.received_ns,
        peer=message.peer,
        helo=message.helo,
        tls=message.tls,
        mail_arg=message.mail_arg,
        rcpt_args=message.rcpt_args,
        wire=message.wire,
        digest=digest,
        smtputf8=message.smtputf8,
        proxied_for=message.proxied_for,
        refused=message.refused,
    )
