"""A verdict in plain words: what the message is, how sure that is, who and why, and what shows it.

For `bouncetap classify --explain`. Every statement names the rule that made it (docs/rules.md) and quotes the text.
"""

from __future__ import annotations

from collections.abc import Iterator

from classifier.verdict import CountsAgainst, Evidence, Kind, Recipient, Verdict

SHOWN_RECIPIENTS = 20
_KINDS = {
    Kind.BOUNCE: "a bounce: delivery failed for good for at least one recipient",
    Kind.DELAY: "a delay notice: not delivered yet, still trying",
    Kind.DELIVERED: "a delivery confirmation",
    Kind.AUTO_REPLY: "an automatic reply; the mailbox is alive",
    Kind.CHALLENGE_RESPONSE: "a challenge that asks the sender to prove being human; never a reason to suppress",
    Kind.UNSUBSCRIBE: "a request to get no more mail",
    Kind.COMPLAINT: "a complaint about our mail",
    Kind.RECEIPT: "a read receipt",
    Kind.REPORT: "a report by a machine that concerns no single recipient",
    Kind.HUMAN: "written by a person, for a person to read",
    Kind.OTHER: "none of the above: list traffic, newsletter, calendar, spam or unreadable",
}
_AGAINST = {
    CountsAgainst.RECIPIENT: "counts against the recipient",
    CountsAgainst.RECEIVER: "counts against the receiving system, not the recipient",
    CountsAgainst.MESSAGE: "counts against the message, not the recipient",
    CountsAgainst.SENDER: "counts against the sender (us), not the recipient",
    CountsAgainst.NOBODY: "counts against nobody",
}


_STATED = "dsn.field."  # evidence that is a report's own field
# The order of the tests (classifier.classify), each with how the rules begin that let it decide.
_TESTS = (
    ("a feedback report about our mail", ("arf.",)),
    ("a disposition notification", ("mdn.",)),
    ("a delivery-status part or its fields", ("dsn.",)),
    ("a mail system's notice in words", ("ndr.", "forged.")),
    ("a second opinion by flufl.bounce", ("flufl.",)),
    ("header fields, addresses and words of programs and people", ()),
)


def explain(verdict: Verdict) -> str:
    """Several lines of text; addresses and quotes are shown as they are."""
    return "\n".join(_lines(verdict))


def _lines(verdict: Verdict) -> Iterator[str]:
    yield f"This is {_KINDS[verdict.kind]} ({verdict.kind}, {_percent(verdict.confidence)} sure)."
    if verdict.unparsable:
        yield "It could not be read; it is kept like any other."
    if verdict.opt_out:
        yield "It asks for an opt-out."
    if verdict.authentic is not None:
        yield f"It is about a message of ours: {'yes' if verdict.authentic else 'no, it looks forged or misdirected'}."
    if reply := verdict.auto_reply:
        facts = [f"type {reply.type}"]
        facts += [f"back on {reply.returns_on}"] if reply.returns_on else []
        facts += [f"new address {reply.new_address}"] if reply.new_address else []
        yield f"The automatic reply says: {', '.join(facts)}."
    yield from _tests(verdict)
    told = {item for recipient in verdict.recipients[:SHOWN_RECIPIENTS] for item in recipient.evidence}
    general = [item for item in verdict.evidence if item not in told]
    if general:
        yield "What shows it:"
        yield from (f"  {_quoted(item)}" for item in general)
    if verdict.alternatives:
        yield "What it could have been, and why not:"
        yield from (f"  {kind}: {why}" for kind, why in verdict.alternatives)
    for recipient in verdict.recipients[:SHOWN_RECIPIENTS]:
        yield from _recipient(recipient)
    if len(verdict.recipients) > SHOWN_RECIPIENTS:
        yield f"... and {len(verdict.recipients) - SHOWN_RECIPIENTS} more recipients."


def _tests(verdict: Verdict) -> Iterator[str]:
    """Which test decided, and which found nothing before it."""
    rules = [item.rule for item in verdict.evidence]
    decided = next((i for i, (_, own) in enumerate(_TESTS) if own and any(r.startswith(own) for r in rules)), None)
    last = len(_TESTS) - 1 if decided is None else decided
    passed = [name for name, _ in _TESTS[:last] if decided is not None or not name.startswith("a second")]
    yield f"Decided by: {_TESTS[last][0]}." + (
        f" Looked for before, and not there: {'; '.join(passed)}." if passed else ""
    )


def _recipient(recipient: Recipient) -> Iterator[str]:
    who = recipient.address or "recipient unknown"
    if recipient.original and recipient.original != recipient.address:
        who += f" (we sent to {recipient.original})"
    parts = [recipient.action] if recipient.action else []
    if recipient.status:
        parts.append(recipient.status + (" (derived from the reason)" if recipient.status_derived else ""))
    if recipient.reason:
        parts.append(f"{recipient.reason}, category {recipient.category}, {_percent(recipient.confidence)} sure")
    if recipient.counts_against:
        parts.append(_AGAINST[recipient.counts_against])
    yield f"{who}: {'; '.join(parts)}" if parts else f"Whom it concerns: {who}"
    yield from (f"  stated: “{_line(item.text)}”" for item in recipient.evidence if item.rule.startswith(_STATED))
    yield from (f"  why: {_quoted(item)}" for item in recipient.evidence if not item.rule.startswith(_STATED))
    yield from (f"  not: {reason}, for which less speaks ({_line(why)})" for reason, why in recipient.alternatives)


def _quoted(item: Evidence) -> str:
    where = f" in part {item.part}" if item.part else ""
    quote = _line(item.text)
    return f"rule {item.rule}{where}" + (f": “{quote}”" if quote else "")


def _line(text: str) -> str:
    return " ".join(text.split())


def _percent(confidence: float) -> str:
    return f"{confidence:.0%}"
