"""Message disposition notifications (RFC 8098) and the rejections that use their form (RFC 5429 section 2.1)."""

from __future__ import annotations

from dataclasses import dataclass

from classifier.mime import Message
from classifier.mime.headers import split
from classifier.mime.message import EMBEDDED
from classifier.reports.dsn import recipient
from classifier.verdict import Evidence

_TYPES = frozenset({"message/disposition-notification", "message/global-disposition-notification"})
_REFUSED = ("denied", "failed", "rejected")
_REJECT_WORDS = (
    "automatically rejected", "reject action", "was rejected", "message is refused", "refused by the recipient",
    "automatisch zurückgewiesen", "rejeté", "rechazado",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Disposition:
    """A disposition notification: whose, what happened, whether that is a rejection, and of which message."""

    recipient: str | None
    original: str | None
    disposition: str
    rejected: bool
    message_id: str | None
    text: str
    evidence: tuple[Evidence, ...]


def find(message: Message) -> Disposition | None:
    """Find the message's own disposition notification."""
    for part in message.walk():
        if part.content_type in EMBEDDED and part is not message.root:
            return None
        if part.content_type in _TYPES:
            data = part.decoded(65_536).lstrip(b"\n")
            fields, _, _ = split(data, 0, len(data))
            disposition = (fields.get("disposition") or "").lower()
            modes, _, happened = disposition.partition(";")
            words = happened.strip()
            text = message.text[:4000]
            # Sieve's reject says "deleted" with automatic-action and explains itself in part 1.
            sieve = (
                words.startswith("deleted")
                and "automatic-action" in modes
                and any(w in text.lower() for w in _REJECT_WORDS)
            )
            return Disposition(
                recipient=recipient(fields.get("final-recipient") or ""),
                original=recipient(fields.get("original-recipient") or ""),
                disposition=disposition,
                rejected=words.startswith(_REFUSED) or sieve,
                message_id=fields.get("original-message-id"),
                text=text,
                evidence=(Evidence("mdn.disposition", part.path, message.raw_offset(part.offset), disposition[:200]),),
            )
    return None
