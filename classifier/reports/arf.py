"""Feedback reports: ARF (RFC 5965, 6430, 6591, 9477) and the provider forms that came before it.

`auth-failure` and `not-spam` are no complaints; `opt-out` is a wish to be removed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from classifier import addresses
from classifier.mime import Headers, Message, Part
from classifier.mime.headers import split
from classifier.mime.message import EMBEDDED, HEADERS_ONLY
from classifier.verdict import Evidence, Kind

_KINDS = {
    "opt-out": Kind.UNSUBSCRIBE, "opt-out-list": Kind.UNSUBSCRIBE, "auth-failure": Kind.REPORT, "not-spam": Kind.REPORT,
    "dmarc": Kind.REPORT,
}  # fmt: skip
_TYPE = re.compile(rb"^Feedback-Type:[ \t]*([A-Za-z0-9-]{2,40})", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Feedback:
    """A feedback report: what kind of verdict it makes, its type, and the addresses it names."""

    kind: Kind
    feedback_type: str
    recipients: tuple[str, ...]
    fields: Headers
    evidence: tuple[Evidence, ...]


def find(message: Message) -> Feedback | None:
    """Find a feedback report: the part of that type, or its fields where a part should be."""
    if message.is_plain:
        return None
    report_type = message.root.params.get("report-type", "").lower()
    for part in message.walk():
        if part.content_type in EMBEDDED and part is not message.root:
            break
        if part.content_type in ("message/feedback-report", "text/feedback-report"):
            return _read(message, part)
        if not part.children and (report_type == "feedback-report" or part.content_type.startswith("message/")):
            data = part.decoded(65_536)
            if _TYPE.search(data):
                return _read(message, part)
    if report_type == "feedback-report":
        for part in message.walk():
            if part.content_type == "message/feedback-report":
                return _read(message, part)
    return None


def _read(message: Message, part: Part) -> Feedback:
    data = part.decoded(65_536).lstrip(b"\n")
    blocks = Headers([])
    match = _TYPE.search(data)
    if match:
        start = data.rfind(b"\n\n", 0, match.start())
        blocks, _, _ = split(data, max(0, start), len(data))
    feedback_type = match[1].decode("ascii").lower() if match else "abuse"
    people: list[str] = []
    for name in ("original-rcpt-to", "removal-recipient", "original-recipient", "x-original-rcpt-to", "reported-rcpt"):
        for value in blocks.get_all(name)[:100]:
            address = addresses.clean(value.partition(";")[2].strip() or value if ";" in value else value)
            if addresses.valid(address) and address not in people:
                people.append(address)
    where = message.raw_offset(part.offset)
    evidence = (Evidence("arf.feedback-type", part.path, where, feedback_type),)
    return Feedback(_KINDS.get(feedback_type, Kind.COMPLAINT), feedback_type, tuple(people), blocks, evidence)


def reported_copy(message: Message) -> Headers | None:
    """Give the headers of the message that the feedback is about, None where it is not attached."""
    for part in message.walk():
        if part.content_type in EMBEDDED and part.children and len(part.children[0].headers):
            return part.children[0].headers
        if part.content_type in HEADERS_ONLY:
            headers, _, _ = split(part.decoded(65_536).lstrip(b"\n"), 0, 65_536)
            return headers
    return None
