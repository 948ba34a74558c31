"""Message disposition notifications (RFC 8098) and the rejections that use their form (RFC 5429 section 2.1)."""

from __future__ import annotations

from dataclasses import dataclass

from classifier.fold import fold
from classifier.mime import Message, Part
from classifier.mime.headers import split
from classifier.mime.message import EMBEDDED
from classifier.reports.dsn import recipient
from classifier.verdict import Evidence

_TYPES = frozenset({"message/disposition-notification", "message/global-disposition-notification"})
_REFUSED = ("denied", "failed", "rejected")
# What Sieve's reject puts above its "deleted" or "dispatched" (RFC 5429 section 2.1.2), folded.
_REJECT_WORDS = (
    "automatically rejected", "automatically refused", "reject action", "was rejected", "message is refused",
    "refused by the recipient", "automatisch zuruckgewiesen", "automatisch abgelehnt", "rejete automatiquement",
    "a ete rejete", "a ete refuse", "rechazado automaticamente", "rifiutato automaticamente", "automatisch geweigerd",
    "automatycznie odrzucon", "автоматически отклонен", "自動的に拒否",
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
    if message.is_plain:
        return None
    for part in message.walk():
        if part.content_type in EMBEDDED and part is not message.root:
            return None
        if part.content_type in _TYPES:
            return _read(message, part)
    return None


def _read(message: Message, part: Part) -> Disposition:
    data = part.decoded(65_536).lstrip(b"\n")
    fields, _, _ = split(data, 0, len(data))
    disposition = (fields.get("disposition") or "").lower()
    modes, _, happened = disposition.partition(";")
    return Disposition(
        recipient=recipient(fields.get("final-recipient") or ""),
        original=recipient(fields.get("original-recipient") or ""),
        disposition=disposition,
        rejected=happened.strip().startswith(_REFUSED) or ("automatic-action" in modes and _says_rejected(message)),
        message_id=fields.get("original-message-id"),
        text=message.text[:4000],
        evidence=(Evidence("mdn.disposition", part.path, message.raw_offset(part.offset), disposition[:200]),),
    )


def _says_rejected(message: Message) -> bool:
    """Sieve's reject gives an ordinary disposition and says in part 1, or in Auto-Submitted, that it refused."""
    if "rejected" in (message.headers.get("auto-submitted") or "").lower():
        return True
    text = fold(message.text[:4000])
    return any(words in text for words in _REJECT_WORDS)
