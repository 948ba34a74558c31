"""What goes into `explain()` and what comes out: the facts about one failed recipient, and the finding.

Plain frozen data, so that the extraction of reports and the judgement of reasons know nothing of each other.
"""

from __future__ import annotations

from dataclasses import dataclass

from classifier.verdict import Category, CountsAgainst, Evidence, Reason


@dataclass(frozen=True, slots=True)
class Facts:
    """What a report says about one recipient, as found; nothing here need be present or true.

    `diagnostic` is the text of the refusal itself (Diagnostic-Code without its type, or the quoted SMTP reply);
    `status` the report's own Status field; `reply_code` an SMTP reply code where a field gave one apart from the
    text; `action` the report's Action; `stage` the SMTP command that was answered (connect, helo, mail, rcpt,
    data); `human_text` the report's prose, which is weaker evidence and may speak of other recipients too.
    """

    diagnostic: str = ""
    status: str | None = None
    reply_code: int | None = None
    action: str | None = None
    remote_mta: str | None = None
    reporting_mta: str | None = None
    address: str | None = None
    stage: str | None = None
    human_text: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """Why one recipient was not reached (taxonomy, "reason → category").

    `status` is the most specific enhanced code (RFC 3463) and `status_derived` says that it was inferred from the
    reason; `reply_code` the SMTP reply's; `confidence` a probability in 0..1 that `reason` is right, calibrated on
    labelled mail (docs/classifier.md); `final` is True when no more tries follow, None when nothing tells;
    `alternatives` are the reasons that lost, each with its rule and what that found, the strongest first.
    """

    reason: Reason
    category: Category
    counts_against: CountsAgainst
    status: str | None = None
    status_derived: bool = False
    reply_code: int | None = None
    confidence: float = 0.3
    evidence: tuple[Evidence, ...] = ()
    final: bool | None = None
    alternatives: tuple[tuple[Reason, str], ...] = ()
