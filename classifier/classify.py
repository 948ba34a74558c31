"""`classify(raw, context) -> Verdict`: the order of tests, and the verdict put together. It never raises.

Structure first: feedback report, disposition, delivery status; then notices in prose; then what people and their
vacation programs write (`classifier.texts`); flufl.bounce only where a mail system wrote and nobody could read it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache

from classifier import addresses, texts
from classifier.context import NO_CONTEXT, Context
from classifier.mime import Headers, Message, parse
from classifier.reasons.explain import explain
from classifier.reasons.facts import Facts
from classifier.reports import arf, dsn, forged, mdn, mentions, ndr, returned, secondopinion, sender
from classifier.reports.model import Case, Report
from classifier.verdict import REASONS, Evidence, Kind, Reason, Recipient, Verdict, unparsable

_DONE = frozenset({"delivered", "relayed", "expanded"})
# What a rejection by the owner's script (RFC 5429) may say of the mailbox instead.
_OF_THE_MAILBOX = frozenset(
    {
        Reason.BAD_MAILBOX, Reason.MOVED, Reason.DISABLED, Reason.SUSPENDED, Reason.MAILBOX_FULL, Reason.SYSTEM_FULL,
        Reason.TOO_LARGE, Reason.VIRUS,
    }
)  # fmt: skip
_WORD = re.compile(r"[^\W\d_]{2,}")
_WORST_SHOWN = 20  # evidence of so many recipients is repeated at the top


@cache
def warm_up() -> None:
    """Load every rule, once, so that no message pays for it; `classify` does it by itself at its first call."""
    notice = b"From: mailer-daemon@a.example\n\nundeliverable <b@a.example>: 550 5.1.1 c"
    for sample in (notice, b"From: a@b.example\n\nhello you"):
        _classify(parse(sample), NO_CONTEXT, "")
    forged.book()
    texts.load()


def classify(raw: bytes, context: Context = NO_CONTEXT) -> Verdict:
    """Say what a message is. Pure, bounded in time and memory; whatever goes wrong gives an unparsable verdict."""
    digest = hashlib.sha256(raw).hexdigest()
    try:
        warm_up()
        return _classify(parse(raw), context, digest)
    except Exception as error:
        return unparsable(digest, f"{type(error).__name__}: {error}")


def _classify(message: Message, context: Context, digest: str) -> Verdict:
    feedback = arf.find(message)
    if feedback is not None:
        return _complaint(message, feedback, context, digest)
    disposition = mdn.find(message)
    if disposition is not None:
        return _receipt(disposition, digest)
    report = dsn.find(message)
    if report is not None and report.rule == "dsn.flattened" and not sender.is_system(message, context):
        report = ndr.find(message, context) and report
    if report is None:
        report = ndr.find(message, context)
    if report is not None and report.rule == "dsn" and report.forwarded and sender.writes_above(message, context):
        return _written(message, context, digest)  # a person who needs a person, and shows what came back
    if report is not None and (addresses.is_machine(message.from_address) or not texts.is_challenge(message)):
        return _report(message, report, context, digest)
    if sender.is_system(message, context) and "auto-submitted" not in message.headers:
        second = secondopinion.ask(message)
        if second is not None:
            return _report(message, second, context, digest)
    if not len(message.headers) and (nothing := _nothing_to_read(message)):
        return Verdict(Kind.OTHER, 0.9, digest, unparsable=nothing == "unreadable", evidence=(Evidence(nothing),))
    return _written(message, context, digest)


def _nothing_to_read(message: Message) -> str:
    """Name what is wrong with a message that has neither a header nor words; "" where somebody could read it."""
    text = message.text[:8000]
    odd = sum(not c.isprintable() and c not in "\n\t" for c in text) + text.count("\ufffd")
    if odd > len(text) // 20:
        return "unreadable"
    return "" if len(_WORD.findall(text)) > 2 else "empty"


def _report(message: Message, report: Report, context: Context, digest: str) -> Verdict:
    prose, copied = report.human_text, report.copied_text
    if not prose:
        prose, copied = returned.before(message.text)
    if report.rule.startswith("dsn"):
        mentions.quote(report, prose)
    copy = returned.find(message, copied)
    forgery = forged.find(message, report, copy, context)
    if forgery:
        why_not = f"{forgery[0].rule}: no mail system writes such a notice"
        return Verdict(
            Kind.OTHER, 0.95, digest, authentic=False, evidence=forgery, alternatives=((Kind.BOUNCE, why_not),)
        )  # fmt: skip
    token = next((t for to in context.envelope_to if (t := addresses.return_path_token(to, context.patterns))), None)
    kind = _kind(report.cases)
    waiting = [c for c in report.cases if kind is Kind.DELIVERED or c.action not in _DONE]
    alone = waiting[0] if len(waiting) == 1 else None
    origin = (token.address if token else None) or (_copied_to(copy) if alone else None)
    people = tuple(_recipient(c, report, prose, origin if c is alone else None) for c in report.cases)
    evidence = list(report.evidence)
    for person in people[:_WORST_SHOWN]:
        evidence.extend(person.evidence)
    if token:
        evidence.append(Evidence("envelope.token", "", -1, token.token[:200]))
    authentic, why = _authentic(copy, token, context)
    if why:
        evidence.append(why)
    return Verdict(
        kind=kind,
        confidence=report.confidence * (0.85 if report.forwarded else 1.0),
        sha256=digest,
        recipients=people,
        reporting_mta=report.reporting_mta,
        original_message_id=_message_id(copy),
        original_envelope_id=report.envelope_id,
        authentic=authentic,
        evidence=tuple(evidence),
    )


def _kind(cases: Iterable[Case]) -> Kind:
    """Bounce if anything failed, else delay if anything waits, else delivered; a missing Action is told by Status."""
    actions = set()
    for case in cases:
        by_class = {"5": "failed", "4": "delayed", "2": "delivered"}
        actions.add(case.action or by_class.get((case.status or "5")[0], "failed"))
    if "failed" in actions:
        return Kind.BOUNCE
    return Kind.DELAY if "delayed" in actions else Kind.DELIVERED


def _recipient(case: Case, report: Report, prose: str, origin: str | None) -> Recipient:
    original = case.original or origin
    if original and case.address and original.lower() == case.address.lower():
        original = None
    action = case.action or {"5": "failed", "4": "delayed", "2": "delivered"}.get((case.status or "")[:1])
    address = case.address or original
    evidence = tuple(case.evidence)
    if action in _DONE or report.rule.startswith("flufl."):
        reason = Reason.DELIVERED if action in _DONE else Reason.UNKNOWN
        category, against = REASONS[reason]
        return Recipient(
            address=address, original=original, action=action, status=case.status, dsn_status=case.status,
            reply_code=case.reply_code, reason=reason, category=category, counts_against=against,
            diagnostic=case.diagnostic or None, remote_mta=case.remote_mta, evidence=evidence,
            final=True if action in _DONE else None, confidence=report.confidence if action in _DONE else 0.4,
        )  # fmt: skip
    finding = explain(
        Facts(
            diagnostic=case.diagnostic, status=case.status, reply_code=case.reply_code, action=action,
            remote_mta=case.remote_mta, reporting_mta=report.reporting_mta, address=case.address,
            stage=case.stage, human_text=prose[:8000],
        )
    )  # fmt: skip
    final = finding.final
    if final is None and action in ("failed", "delayed"):
        final = action == "failed"
    return Recipient(
        address=address, original=original, action=action, status=finding.status or case.status, dsn_status=case.status,
        status_derived=finding.status_derived, reply_code=finding.reply_code, reason=finding.reason,
        category=finding.category, counts_against=finding.counts_against, diagnostic=case.diagnostic or None,
        remote_mta=case.remote_mta, final=final, confidence=min(finding.confidence, report.confidence),
        evidence=evidence + finding.evidence,
    )  # fmt: skip


def _copied_to(copy: Headers | None) -> str | None:
    people = [f.address for f in addresses.find((copy.get("to") or "")[:4000], 2)] if copy is not None else []
    return people[0] if len(people) == 1 else None


def _message_id(copy: Headers | None) -> str | None:
    return ((copy.get("message-id") or "").strip()[:998] or None) if copy is not None else None


def _authentic(
    copy: Headers | None, token: addresses.Token | None, context: Context
) -> tuple[bool | None, Evidence | None]:
    """Is the report about a message of ours? Known only where our patterns or domains are configured."""
    if token and token.pattern in context.patterns.verp:
        return True, None
    ours = tuple(d.lower() for d in context.patterns.sent_domains)
    if not ours or copy is None:
        return None, None
    claimed = " ".join(filter(None, (copy.get(n) for n in ("from", "return-path", "message-id", "sender"))))
    domains = {part.strip("<>\"' ,;)").lower() for part in claimed.replace("@", " @").split() if part.startswith("@")}
    if any(d.lstrip("@") == o or d.endswith("." + o) for d in domains for o in ours):
        return True, None
    return False, Evidence("authentic.copy-not-ours", "", -1, claimed[:200])


def _complaint(message: Message, feedback: arf.Feedback, context: Context, digest: str) -> Verdict:
    copy = arf.reported_copy(message)
    people = list(feedback.recipients)
    token = next((t for to in context.envelope_to if (t := addresses.return_path_token(to, context.patterns))), None)
    if not people and token and token.address:
        people = [token.address]
    if not people and (one := _copied_to(copy)):
        people = [one]
    recipients = (
        tuple(Recipient(address=a, confidence=0.95) for a in people) if feedback.kind is not Kind.REPORT else ()
    )
    authentic, why = _authentic(copy, token, context)
    return Verdict(
        kind=feedback.kind, confidence=0.99, sha256=digest, recipients=recipients, feedback_type=feedback.feedback_type,
        reporting_mta=feedback.fields.get("reporting-mta"), original_message_id=_message_id(copy),
        opt_out=feedback.kind is Kind.UNSUBSCRIBE, authentic=authentic,
        evidence=feedback.evidence + ((why,) if why else ()),
    )  # fmt: skip


def _receipt(found: mdn.Disposition, digest: str) -> Verdict:
    if not found.rejected:
        return Verdict(Kind.RECEIPT, 0.99, digest, original_message_id=found.message_id, evidence=found.evidence)
    case = Case(found.recipient, found.original, "failed", None, found.text)
    report = Report("mdn.rejected", [case], 0.95)
    person = _recipient(case, report, found.text, None)
    if person.reason not in _OF_THE_MAILBOX:
        # Whatever the owner gives as the reason, it is the owner who refuses.
        category, against = REASONS[Reason.RECIPIENT_REFUSED]
        person = replace(person, reason=Reason.RECIPIENT_REFUSED, category=category, counts_against=against)
    return Verdict(
        Kind.BOUNCE,
        0.95,
        digest,
        (person,),
        original_message_id=found.message_id,
        evidence=found.evidence + person.evidence,
    )


def _written(message: Message, context: Context, digest: str) -> Verdict:
    told = texts.judge(message, context)
    return Verdict(
        kind=told.kind, confidence=told.confidence, sha256=digest, recipients=told.recipients, opt_out=told.opt_out,
        auto_reply=told.auto_reply, feedback_type=told.feedback_type, evidence=told.evidence,
        alternatives=told.alternatives,
    )  # fmt: skip
