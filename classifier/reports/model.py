"""What every report reader gives: a Report with one Case a recipient, facts only, no judgement."""

from __future__ import annotations

from dataclasses import dataclass, field

from classifier.verdict import Evidence

MAX_RECIPIENTS = 1000  # servers take 100 to 1,000 a transaction (RFC 5321 section 4.5.3.1.8)
MAX_DIAGNOSTIC = 4000


def cut(diagnostic: str) -> str:
    """Make a diagnostic one line of MAX_DIAGNOSTIC characters: its beginning and its end, where refusals say why."""
    if len(diagnostic) > 4 * MAX_DIAGNOSTIC:
        diagnostic = f"{diagnostic[: 2 * MAX_DIAGNOSTIC]} {diagnostic[-2 * MAX_DIAGNOSTIC :]}"
    diagnostic = " ".join(diagnostic.split())
    if len(diagnostic) <= MAX_DIAGNOSTIC:
        return diagnostic
    head = MAX_DIAGNOSTIC * 3 // 4
    return f"{diagnostic[:head]} ... {diagnostic[head + 5 - MAX_DIAGNOSTIC :]}"


@dataclass(slots=True)
class Case:
    """What a report says of one recipient. `action` is one of RFC 3464 section 2.3.3, or None."""

    address: str | None = None
    original: str | None = None
    action: str | None = None
    status: str | None = None
    diagnostic: str = ""
    remote_mta: str | None = None
    reply_code: int | None = None
    stage: str | None = None  # the SMTP command that was answered, where the report says so outside the diagnostic
    evidence: list[Evidence] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """One report: the rule that found it, its cases, the text that a person was to read, and the copy in it."""

    rule: str
    cases: list[Case]
    confidence: float
    reporting_mta: str | None = None
    envelope_id: str | None = None
    human_text: str = ""
    copied_text: str = ""
    forwarded: bool = False
    cut_short: bool = False  # it ends within the fields of its recipients
    names_people: bool = True  # the report itself says who was not reached
    evidence: list[Evidence] = field(default_factory=list)
