"""What a report says of one recipient, with the reason: a `Case` (facts only) becomes a `Recipient` of the verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from classifier.reasons.explain import explain
from classifier.reasons.facts import Facts
from classifier.reports.model import Case, Report
from classifier.verdict import REASONS, Kind, Reason, Recipient

DONE = frozenset({"delivered", "relayed", "expanded"})  # RFC 3464 section 2.3.3: nothing failed
_BY_CLASS = {"5": "failed", "4": "delayed", "2": "delivered"}
_PROSE_CHARS = 8000  # of what a person was to read; reasons stand at its head
_UNNAMED = "somebody@unnamed.invalid"
_UNSURE = 0.4  # of a reason that nobody knows
# What a rejection by the owner's script (RFC 5429) may say of the mailbox instead.
_OF_THE_MAILBOX = frozenset(
    {
        Reason.BAD_MAILBOX, Reason.MOVED, Reason.DISABLED, Reason.SUSPENDED, Reason.MAILBOX_FULL, Reason.SYSTEM_FULL,
        Reason.TOO_LARGE, Reason.VIRUS,
    }
)  # fmt: skip


def kind_of(cases: Iterable[Case]) -> Kind:
    """Bounce if anything failed, else delay if anything waits, else delivered; a missing Action is told by Status."""
    actions = {case.action or _BY_CLASS.get((case.status or "5")[0], "failed") for case in cases}
    if "failed" in actions:
        return Kind.BOUNCE
    return Kind.DELAY if "delayed" in actions else Kind.DELIVERED


def recipient(case: Case, report: Report, prose: str, sent_to: str | None) -> Recipient:
    """Judge one recipient. `prose` is what a person was to read; `sent_to` whom we sent to, where that is proven."""
    action = case.action or _BY_CLASS.get((case.status or "")[:1])
    original = case.original or sent_to
    if original and case.address and original.lower() == case.address.lower():
        original = None
    person = Recipient(
        address=case.address or original,
        original=original,
        action=action,
        status=case.status,
        dsn_status=case.status,
        reply_code=case.reply_code,
        diagnostic=case.diagnostic or None,
        remote_mta=case.remote_mta,
        evidence=tuple(case.evidence),
    )
    if action in DONE:
        return replace(_because(person, Reason.DELIVERED), final=True, confidence=report.confidence)
    if report.rule.startswith("flufl."):  # it says who, never why: never `hard`
        return replace(_because(person, Reason.UNKNOWN), confidence=_UNSURE)
    return _explained(person, case, report, prose)


def _explained(person: Recipient, case: Case, report: Report, prose: str) -> Recipient:
    prose = prose[:_PROSE_CHARS]
    finding = _why(
        Facts(
            diagnostic=case.diagnostic,
            status=case.status,
            reply_code=case.reply_code,
            action=person.action,
            remote_mta=case.remote_mta,
            reporting_mta=report.reporting_mta,
            address=_named(case.address, prose),
            stage=case.stage,
            human_text=prose,
        )
    )
    final = finding.final
    if final is None and person.action in ("failed", "delayed"):
        final = person.action == "failed"
    return replace(
        person,
        status=finding.status or case.status,
        status_derived=finding.status_derived,
        reply_code=finding.reply_code,
        reason=finding.reason,
        category=finding.category,
        counts_against=finding.counts_against,
        final=final,
        confidence=min(finding.confidence, report.confidence),
        evidence=person.evidence + finding.evidence,
        alternatives=finding.alternatives,
    )


_why = lru_cache(maxsize=16)(explain)  # of a report's many recipients most were refused in the same words


def _named(address: str | None, prose: str) -> str | None:
    """The address where the prose names it; one and the same for all whom it does not name."""
    return address if not address or address in prose or address.lower() in prose.lower() else _UNNAMED


def refused_by_owner(person: Recipient) -> Recipient:
    """A rejection by the owner's own script: it is the owner who refuses, unless it speaks of the mailbox."""
    return person if person.reason in _OF_THE_MAILBOX else _because(person, Reason.RECIPIENT_REFUSED)


def _because(person: Recipient, reason: Reason) -> Recipient:
    category, against = REASONS[reason]
    return replace(person, reason=reason, category=category, counts_against=against)
