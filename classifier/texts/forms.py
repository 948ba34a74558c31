"""Providers' complaint forms that are no RFC 5965 reports: Hotmail's JMRP, AOL's scomp, Yahoo and the like."""

from __future__ import annotations

import re
from dataclasses import dataclass

from classifier import addresses
from classifier.context import Context
from classifier.linear import Linear
from classifier.mime import Message
from classifier.mime.message import EMBEDDED
from classifier.verdict import Evidence, Kind, Recipient

_FROM = Linear(
    r"^(?:staff@(?:hotmail|outlook|live|msn)\.com|scomp@aol\.net|(?:fbl|feedbackloop|feedback-loop|"
    r"complaints?|abuse-?reports?|arf|spamreport|"
    r"feedback)@(?:\S+\.)?(?:yahoo(?:-inc)?\.com|comcast\.net|cox\.net|rackspace\.com|mail\.ru|"
    r"corp\.mail\.ru|arf\.mail\.yahoo\.com|oath\.com|"
    r"senderscore\.net|yandex\.\w+|fastmail\.com|zoho\.com|italiaonline\.it|libero\.it|orange\.fr|"
    r"laposte\.net|gmx\.net|web\.de|1und1\.de))$"
)
_SUBJECT = Linear(
    r"^(?:(?:complaint|abuse report|spam complaint) (?:about|from|regarding|for) (?:a )?(?:message|email|"
    r"mail)s? from\b|email feedback report for\b|"
    r"email abuse (?:report|complaint)|client tos notification|aol email feedback|feedback loop complaint|"
    r"spam report from)"
)
_AMAZON = re.compile(r'"(?:notificationType|eventType)"\s{0,4}:\s{0,4}"Complaint"')
_COMPLAINED = re.compile(r'"emailAddress"\s{0,4}:\s{0,4}"([^"\s]{3,320})"')
_LOOKED_AT = 10  # addresses
_RECIPIENT_FIELDS = (
    "x-hmxmroriginalrecipient",
    "x-original-rcpt-to",
    "x-rcpt-to",
    "original-recipient",
    "x-envelope-to",
    "delivered-to",
    "to",
)


@dataclass(frozen=True, slots=True)
class Form:
    """A complaint that a provider forwarded."""

    kind: Kind
    feedback_type: str
    recipients: tuple[Recipient, ...]
    evidence: tuple[Evidence, ...]


def _amazon(message: Message) -> Form | None:
    """Amazon SES sends complaints as JSON (notificationType Complaint) where nobody set up anything better."""
    if not message.opening.lstrip().startswith("{") or not _AMAZON.search(message.opening):
        return None
    text = message.text[:200_000].strip()
    people = tuple(
        Recipient(address=a, confidence=0.95) for a in _COMPLAINED.findall(text[:20_000])[:50] if addresses.valid(a)
    )
    return Form(Kind.COMPLAINT, "abuse", people, (Evidence("form.amazon-ses", "", -1, text[:100]),))


def find(message: Message, context: Context) -> Form | None:
    """Read a provider's form; None where the message is none."""
    if message.root.content_type in ("text/plain", "application/json") and (form := _amazon(message)):
        return form
    subject = message.subject[:300].strip()
    author = message.from_address[:320]
    by_author, by_subject = _FROM.within(author), _SUBJECT.within(subject)
    copy = next((part for part in message.walk() if part.content_type in EMBEDDED and part is not message.root), None)
    marked = any("x-hmxmroriginalrecipient" in part.headers for part in message.walk())
    if not marked and not by_subject and not (by_author and copy is not None):
        return None
    if not marked and not by_author and copy is None:
        return None
    people: tuple[Recipient, ...] = ()
    for name in _RECIPIENT_FIELDS:
        for part in message.walk():
            if (
                part is message.root
                and name in ("to", "delivered-to", "x-envelope-to")
                and part.content_type not in EMBEDDED
            ):
                continue
            found = next(addresses.find((part.headers.get(name) or "")[:2000], 1), None)
            if found and found.address.lower() != author.lower() and found.address not in context.envelope_to:
                people = (Recipient(address=found.address, confidence=0.9),)
                break
        if people:
            break
    told = Evidence("form.provider", "", -1, f"{author}: {subject}"[:200])
    return Form(Kind.COMPLAINT, "abuse", people, (told,))


def customer(message: Message, targets: tuple[str, ...]) -> tuple[Recipient, ...]:
    """Whose complaint a provider passes on in words: the first address that is neither the provider's desk nor ours."""
    ours = {target.rpartition("@")[2].lower() for target in targets}
    for found in addresses.find(message.text[:20_000], _LOOKED_AT):
        address = found.address.lower()
        if address != message.from_address.lower() and address.rpartition("@")[2] not in ours:
            return (Recipient(address=found.address, confidence=0.9),)
    return ()
