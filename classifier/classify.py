"""`classify(raw, context) -> Verdict`: the order of tests, and the verdict put together. It never raises.

Structure first: feedback report, disposition, delivery status; then notices in prose; then what people and their
vacation programs write (`classifier.texts`); flufl.bounce only where a mail system wrote and nobody could read it.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache

from classifier import addresses, ours, recipients, texts
from classifier.context import NO_CONTEXT, Context
from classifier.mime import Message, parse
from classifier.reports import arf, cutshort, dsn, forged, mdn, mentions, ndr, returned, secondopinion, sender
from classifier.reports.model import Case, Report
from classifier.verdict import Evidence, Kind, Recipient, Verdict, unparsable

_WORD = re.compile(r"[^\W\d_]{2,}")
_SHOWN = 20  # evidence of so many recipients is repeated at the top
_FORWARDED = 0.85  # of the confidence, where a report came by way of somebody else


@cache
def warm_up() -> None:
    """Load every rule, once, so that no message pays for it; `classify` does it by itself at its first call."""
    notice = b"From: mailer-daemon@a.example\n\nundeliverable <b@a.example>: 550 5.1.1 c"
    for sample in (notice, b"From: a@b.example\n\nhello you"):
        _classify(parse(sample), NO_CONTEXT, "")
    forged.book()
    texts.load()


def classify(raw: bytes | bytearray | memoryview, context: Context = NO_CONTEXT) -> Verdict:
    """Say what a message is, of which `raw` is the whole; line ends may be CRLF, LF or CR.

    Pure, bounded in time and memory; whatever goes wrong with a message gives an unparsable verdict. Raises TypeError
    where `raw` is no message at all but something else.
    """
    if not isinstance(raw, bytes | bytearray | memoryview):
        raise TypeError(f"a message is bytes, not {type(raw).__name__}")
    raw = bytes(raw)  # no copy of what is bytes already
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
    report = _find_report(message, context)
    if report is not None:
        return _report(message, report, context, digest)
    if not len(message.headers) and (nothing := _nothing_to_read(message)):
        return Verdict(Kind.OTHER, 0.9, digest, unparsable=nothing == "unreadable", evidence=(Evidence(nothing),))
    return _written(message, context, digest)


def _find_report(message: Message, context: Context) -> Report | None:
    """Find a report on a delivery: its machine-readable part, its prose, or what flufl.bounce makes of it."""
    system = sender.is_system(message, context)
    report = dsn.find(message)
    if report is None:
        report = ndr.find(message, context)
    elif report.rule == "dsn.flattened" and not system and ndr.find(message, context) is None:
        report = None  # somebody quotes a report
    elif report.rule == "dsn" and report.forwarded and sender.writes_above(message, context):
        return None  # a person who needs a person, and shows what came back
    if report is not None and not addresses.is_machine(message.from_address) and texts.is_challenge(message):
        report = None
    if report is None and system and "auto-submitted" not in message.headers:
        return secondopinion.ask(message)
    return report


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
    copy = returned.find(message, copied)
    if report.rule.startswith("dsn"):
        notice = mentions.Notice(message, prose, (), copy, "failed")
        mentions.name(report, notice, context)
        if report.cut_short:
            cutshort.complete(report, notice, context)
        mentions.quote(report, prose)
    if forgery := forged.find(message, report, copy, context):
        return _forged(forgery, digest)
    origin = ours.origin(copy, context)
    people = _recipients(report, prose, origin)
    shown = tuple(evidence for person in people[:_SHOWN] for evidence in person.evidence)
    return Verdict(
        kind=recipients.kind_of(report.cases),
        confidence=report.confidence * (_FORWARDED if report.forwarded else 1.0),
        sha256=digest,
        recipients=people,
        reporting_mta=report.reporting_mta,
        original_message_id=origin.message_id,
        original_envelope_id=report.envelope_id,
        authentic=origin.authentic,
        evidence=(*report.evidence, *shown, *origin.evidence),
    )


def _recipients(report: Report, prose: str, origin: ours.Origin) -> tuple[Recipient, ...]:
    """Judge each recipient; whom we sent to is known for the one that failed, where only one did."""
    delivered = recipients.kind_of(report.cases) is Kind.DELIVERED
    concerned = [case for case in report.cases if delivered or case.action not in recipients.DONE]
    alone = concerned[0] if len(concerned) == 1 else None
    sent_to = origin.sent_to or (origin.copied_to if alone else None)
    return tuple(recipients.recipient(c, report, prose, sent_to if c is alone else None) for c in report.cases)


def _forged(evidence: tuple[Evidence, ...], digest: str) -> Verdict:
    why_not = f"{evidence[0].rule}: no mail system writes such a notice"
    alternatives = ((Kind.BOUNCE, why_not),)
    return Verdict(Kind.OTHER, 0.95, digest, authentic=False, evidence=evidence, alternatives=alternatives)


def _complaint(message: Message, feedback: arf.Feedback, context: Context, digest: str) -> Verdict:
    origin = ours.origin(arf.reported_copy(message), context)
    named = feedback.recipients or tuple(filter(None, (origin.sent_to or origin.copied_to,)))
    people = named if feedback.kind is not Kind.REPORT else ()
    return Verdict(
        kind=feedback.kind,
        confidence=0.99,
        sha256=digest,
        recipients=tuple(Recipient(address=address, confidence=0.95) for address in people),
        feedback_type=feedback.feedback_type,
        reporting_mta=feedback.fields.get("reporting-mta"),
        original_message_id=origin.message_id,
        opt_out=feedback.kind is Kind.UNSUBSCRIBE,
        authentic=origin.authentic,
        evidence=feedback.evidence + origin.evidence,
    )


def _receipt(found: mdn.Disposition, digest: str) -> Verdict:
    if not found.rejected:
        return Verdict(Kind.RECEIPT, 0.99, digest, original_message_id=found.message_id, evidence=found.evidence)
    case = Case(found.recipient, found.original, "failed", None, found.text)
    report = Report("mdn.rejected", [case], 0.95)
    person = recipients.refused_by_owner(recipients.recipient(case, report, found.text, None))
    return Verdict(
        kind=Kind.BOUNCE,
        confidence=report.confidence,
        sha256=digest,
        recipients=(person,),
        original_message_id=found.message_id,
        evidence=found.evidence + person.evidence,
    )


def _written(message: Message, context: Context, digest: str) -> Verdict:
    told = texts.judge(message, context)
    return Verdict(
        kind=told.kind,
        confidence=told.confidence,
        sha256=digest,
        recipients=told.recipients,
        opt_out=told.opt_out,
        auto_reply=told.auto_reply,
        feedback_type=told.feedback_type,
        evidence=told.evidence,
        alternatives=told.alternatives,
    )
