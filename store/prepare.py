"""All that is computed from a message's bytes, in one pure step: verdict, folder, annotation, IMAP's answers.

It runs in the worker process (`worker.py`), because it is what hostile bytes might crash, hang or bloat. `unreadable`
makes do without looking at the bytes, for a message that did so.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from classifier.classify import classify, warm_up
from classifier.context import Context, Patterns
from classifier.verdict import Category, CountsAgainst, Kind, Reason, Recipient, Verdict, unparsable
from proxy.journal.records import Entry
from store.annotate import Facts, annotation
from store.folders import folder_for, joined, keywords_for
from store.imap.structure import describe
from store.settings import Retention, StoreSettings

__all__ = ["Job", "Kept", "Prepared", "address", "clean", "job_for", "prepare", "unreadable", "verdict_from", "warm_up"]

PEOPLE_LIMIT = 10_000  # recipients of one verdict that the index takes
_PATH = re.compile(rb'\s*<((?:"(?:[^"\\]|\\.)*"|[^">])*)>')


@dataclass(frozen=True, slots=True)
class Kept:
    """What a message's frame has beside the original, where it was filed once: annotation and verdict (JSON)."""

    annotation: bytes
    verdict: bytes


@dataclass(frozen=True, slots=True)
class Job:
    """A message and what must be known to prepare it. `original` is after dot-unstuffing; `kept` if it is salvaged."""

    id: str
    received_ns: int
    original: bytes
    mail_arg: bytes
    rcpt_args: tuple[bytes, ...]
    legacy: str
    retention: Retention
    patterns: Patterns
    kept: Kept | None = None


def job_for(entry: Entry, original: bytes, legacy: str, settings: StoreSettings, kept: Kept | None = None) -> Job:
    """The job for a message that came as `entry` says."""
    return Job(
        id=entry.id,
        received_ns=entry.received_ns,
        original=original,
        mail_arg=entry.mail_arg,
        rcpt_args=entry.rcpt_args,
        legacy=legacy,
        retention=settings.retention,
        patterns=settings.patterns,
        kept=kept,
    )


@dataclass(frozen=True, slots=True)
class Prepared:
    """A message, ready to be filed. `people` are rows for the table of recipients, without their keys.

    `keywords` are those of the verdict alone. The `imap_` fields describe `annotation + original`.
    """

    id: str
    sha256: bytes
    folder: str
    keywords: str
    kind: str
    category: str
    reason: str | None
    confidence: float
    unparsable: bool
    opt_out: bool
    people: list[dict[str, object]]
    envelope_from: str
    envelope_to: tuple[str, ...]
    annotation: bytes
    verdict: bytes  # JSON
    imap_envelope: bytes
    imap_bodystructure: bytes
    header_bytes: int


def prepare(job: Job) -> Prepared:
    """Classify, annotate and describe a message. Of one that is salvaged all stays as it was shown."""
    if job.kept is not None:
        return _prepared(job, verdict_from(job.kept.verdict), lambda shown: shown + job.original)
    received = datetime.fromtimestamp(job.received_ns / 1e9, UTC)
    context = Context(
        envelope_from=address(job.mail_arg),
        envelope_to=tuple(map(address, job.rcpt_args)),
        patterns=job.patterns,
        received_year=received.year,
    )
    return _prepared(job, classify(job.original, context), lambda shown: shown + job.original)


def unreadable(job: Job, why: str) -> Prepared:
    """The same for a message that no worker survived: `other`, `unparsable`; described by its annotation alone."""
    if job.kept is not None:
        return _prepared(job, verdict_from(job.kept.verdict), lambda shown: shown)
    verdict = unparsable(hashlib.sha256(job.original).hexdigest(), why)
    return _prepared(job, verdict, lambda shown: shown)


def _prepared(job: Job, verdict: Verdict, described: Callable[[bytes], bytes]) -> Prepared:
    folder = folder_for(verdict)
    return_path, envelope_to = address(job.mail_arg), tuple(map(address, job.rcpt_args))
    expires_s = job.received_ns // 10**9 + job.retention.for_folder(folder)
    facts = Facts(job.id, return_path, envelope_to, job.legacy, expires_s)
    head = annotation(verdict, facts, job.original) if job.kept is None else job.kept.annotation
    description = describe(described(head))
    worst = next((r for r in verdict.recipients if r.category is verdict.category), None)
    return Prepared(
        id=job.id,
        sha256=bytes.fromhex(verdict.sha256),
        folder=folder,
        keywords=joined(keywords_for(verdict)),
        kind=str(verdict.kind),
        category=str(verdict.category),
        reason=None if worst is None or worst.reason is None else str(worst.reason),
        confidence=verdict.confidence,
        unparsable=verdict.unparsable,
        opt_out=verdict.opt_out,
        people=_people(verdict),
        envelope_from=return_path,
        envelope_to=envelope_to,
        annotation=head,
        verdict=_json(verdict) if job.kept is None else job.kept.verdict,
        imap_envelope=description.envelope,
        imap_bodystructure=description.bodystructure,
        header_bytes=description.header_size,
    )


def verdict_from(data: bytes) -> Verdict:
    """A verdict as far as the index needs it, from the JSON in a frame. Raises ValueError, KeyError, TypeError."""
    fields = json.loads(data)
    people = tuple(
        Recipient(
            address=person["address"],
            original=person["original"],
            action=person["action"],
            status=person["status"],
            reply_code=person["reply_code"],
            reason=None if person["reason"] is None else Reason(person["reason"]),
            category=None if person["category"] is None else Category(person["category"]),
            counts_against=None if person["counts_against"] is None else CountsAgainst(person["counts_against"]),
            final=person["final"],
            confidence=float(person["confidence"]),
        )
        for person in fields["recipients"]
    )
    return Verdict(
        kind=Kind(fields["kind"]),
        confidence=float(fields["confidence"]),
        sha256=str(fields["sha256"]),
        recipients=people,
        opt_out=bool(fields["opt_out"]),
        unparsable=bool(fields["unparsable"]),
    )


def _json(verdict: Verdict) -> bytes:
    """`verdict.to_json()` as bytes, without the deep copy that makes that slow."""
    fields = {**_fields(verdict), "category": verdict.category}
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"), default=_fields).encode("utf-8", "replace")


def _fields(value: Any) -> dict[str, Any]:
    """A dataclass with slots, one level deep."""
    return {name: getattr(value, name) for name in value.__slots__}


def _people(verdict: Verdict) -> list[dict[str, object]]:
    return [
        {
            "position": position,
            "address": r.address and clean(r.address),
            "original": r.original and clean(r.original),
            "action": r.action and clean(r.action, 16),
            "status": r.status and clean(r.status, 16),
            "reply_code": r.reply_code if r.reply_code and 100 <= r.reply_code <= 999 else None,
            "reason": r.reason and str(r.reason),
            "category": str(r.category or Category.NONE),
            "counts_against": r.counts_against and str(r.counts_against),
            "final": r.final,
            "confidence": r.confidence,
        }
        for position, r in enumerate(verdict.recipients[:PEOPLE_LIMIT])
    ]


def clean(text: str, limit: int = 2000) -> str:
    """What any database takes: no lone surrogates, no NUL, not endless."""
    return text[:limit].encode("utf-8", "replace").decode("utf-8").replace("\0", "?")


def address(argument: bytes) -> str:
    """The address in a MAIL or RCPT argument, without its brackets; "" for the null reverse-path."""
    found = _PATH.match(argument)
    text = found[1] if found else (argument.split() or [b""])[0]
    return text.decode("utf-8", "backslashreplace").replace("\0", "?")
