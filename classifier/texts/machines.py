"""What programs send of their own accord: notices about hosts and services, and read receipts in plain text."""

from __future__ import annotations

import re

from classifier.texts import people
from classifier.texts.notice import names_mailbox
from classifier.texts.reading import Judgement, Reading
from classifier.verdict import Evidence, Kind

_REPORT_FIELDS = ("x-xarf", "x-arf", "x-arf-version")  # the abuse desks' format, RFC 5965's plainer cousin
_SHOWN_CHARS = 20_000
_MARKUP = re.compile(
    r"^\s{0,20}<(?:\?xml\b|[a-z_][\w:-]{2,40}(?:\s[\w:-]{1,40}=\"[^\"<>]{0,200}\"){1,9}\s?/?>)", re.IGNORECASE
)


def report(reading: Reading) -> Judgement | None:
    """A report about hosts, pages or domains: by its fields, its subject, or a body that is data and no text."""
    if reading.traits.answer:
        return None
    fields = [name for name in _REPORT_FIELDS if name in reading.message.headers]
    if fields:
        return Judgement(Kind.REPORT, 0.95, evidence=(Evidence(f"header.{fields[0]}", "", -1, fields[0]),))
    if "report" in reading.titled:
        return Judgement(Kind.REPORT, 0.85, evidence=reading.evidence("report"))
    if "<" in reading.message.opening and reading.own_title and _MARKUP.match(reading.new):
        return Judgement(Kind.REPORT, 0.85, evidence=(Evidence("report.data", "", -1, reading.text[:80]),))
    return None


def waiting(reading: Reading) -> Judgement | None:
    """What programs hold until somebody lets it in: digests of quarantines, submissions to lists.

    By their titles, and by the addresses that they show; people write of quarantines as well.
    """
    if reading.traits.answer or "waiting" not in reading.titled or not reading.own_title:
        return None
    if reading.asks or reading.personal or not names_mailbox(reading.message.text[:_SHOWN_CHARS]):
        return None
    return Judgement(Kind.OTHER, 0.85, evidence=reading.evidence("waiting"))


def notice(reading: Reading) -> Judgement | None:
    """A read receipt whose only sign is its subject, or a message that a program says it generated."""
    facts = reading.traits
    if "receipt" in reading.titled and reading.short(1200) and not reading.asks:
        return Judgement(Kind.RECEIPT, 0.85, people.sender(reading.message), evidence=reading.evidence("receipt"))
    if facts.notified:
        return Judgement(Kind.REPORT, 0.85, evidence=facts.evidence)
    if reading.own_title and not reading.asks and reading.says.among({"auto", "unmonitored"}) and not reading.personal:
        return Judgement(Kind.OTHER, 0.7, evidence=reading.evidence("auto", "unmonitored"))
    if facts.generated and not reading.personal:
        return Judgement(
            Kind.REPORT, 0.7, evidence=facts.evidence, alternatives=((Kind.AUTO_REPLY, "not said to be an answer"),)
        )
    return None
