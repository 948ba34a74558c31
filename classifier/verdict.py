"""What a message is: the Verdict and its parts, as frozen data.

The vocabulary (kinds, reasons, categories) is the product's contract: `docs/taxonomy.md` explains each word.
Nothing here parses anything; the dataclasses only know how to present themselves as the JSON object that
`bouncetap classify --jsonl` prints and the index stores.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What the message is: exactly one per message."""

    BOUNCE = "bounce"
    DELAY = "delay"
    DELIVERED = "delivered"
    AUTO_REPLY = "auto_reply"
    CHALLENGE_RESPONSE = "challenge_response"
    UNSUBSCRIBE = "unsubscribe"
    COMPLAINT = "complaint"
    RECEIPT = "receipt"
    REPORT = "report"
    HUMAN = "human"
    OTHER = "other"


class Category(StrEnum):
    """What follows from a reason for whoever keeps the list of addresses."""

    HARD = "hard"  # this address is dead
    SOFT = "soft"  # may work later
    BLOCK = "block"  # refused for what we sent or who we are
    ADMIN = "admin"  # somebody must fix a set-up, mostly ours
    NONE = "none"  # nothing was refused


class CountsAgainst(StrEnum):
    """Who a refusal speaks about. Only RECIPIENT may ever add up to a suppression."""

    RECIPIENT = "recipient"
    RECEIVER = "receiver"
    MESSAGE = "message"
    SENDER = "sender"
    NOBODY = "nobody"


class Reason(StrEnum):
    """Why, for one recipient. `REASONS` maps each to its category and to whom it counts against."""

    BAD_MAILBOX = "bad_mailbox"
    MOVED = "moved"
    BAD_DOMAIN = "bad_domain"
    NO_MAIL_DOMAIN = "no_mail_domain"
    DISABLED = "disabled"
    SUSPENDED = "suspended"
    RECIPIENT_REFUSED = "recipient_refused"
    MAILBOX_FULL = "mailbox_full"
    SYSTEM_FULL = "system_full"
    TOO_LARGE = "too_large"
    IP_BLOCK = "ip_block"
    SPAM_CONTENT = "spam_content"
    CONTENT_POLICY = "content_policy"
    VIRUS = "virus"
    SENDER_REJECTED = "sender_rejected"
    SECURITY = "security"
    AUTH_FAILED = "auth_failed"
    PTR_MISSING = "ptr_missing"
    NOT_COMPLIANT = "not_compliant"
    RELAY_DENIED = "relay_denied"
    RATE_LIMITED = "rate_limited"
    TOO_MANY_RECIPIENTS = "too_many_recipients"
    GREYLISTED = "greylisted"
    NETWORK = "network"
    EXPIRED = "expired"
    SYSTEM_ERROR = "system_error"
    PROTOCOL = "protocol"
    SUPPRESSED = "suppressed"
    UNKNOWN = "unknown"
    DELIVERED = "delivered"


_R, _C, _A = Reason, Category, CountsAgainst

REASONS: dict[Reason, tuple[Category, CountsAgainst]] = {
    _R.BAD_MAILBOX: (_C.HARD, _A.RECIPIENT),
    _R.MOVED: (_C.HARD, _A.RECIPIENT),
    _R.BAD_DOMAIN: (_C.HARD, _A.RECIPIENT),
    _R.NO_MAIL_DOMAIN: (_C.HARD, _A.RECIPIENT),
    _R.DISABLED: (_C.HARD, _A.RECIPIENT),
    _R.SUSPENDED: (_C.SOFT, _A.RECIPIENT),
    _R.RECIPIENT_REFUSED: (_C.SOFT, _A.RECIPIENT),
    _R.MAILBOX_FULL: (_C.SOFT, _A.RECIPIENT),
    _R.SYSTEM_FULL: (_C.SOFT, _A.RECEIVER),
    _R.TOO_LARGE: (_C.SOFT, _A.MESSAGE),
    _R.IP_BLOCK: (_C.BLOCK, _A.SENDER),
    _R.SPAM_CONTENT: (_C.BLOCK, _A.MESSAGE),
    _R.CONTENT_POLICY: (_C.BLOCK, _A.MESSAGE),
    _R.VIRUS: (_C.BLOCK, _A.MESSAGE),
    _R.SENDER_REJECTED: (_C.BLOCK, _A.SENDER),
    _R.SECURITY: (_C.BLOCK, _A.SENDER),
    _R.AUTH_FAILED: (_C.ADMIN, _A.SENDER),
    _R.PTR_MISSING: (_C.ADMIN, _A.SENDER),
    _R.NOT_COMPLIANT: (_C.ADMIN, _A.SENDER),
    _R.RELAY_DENIED: (_C.SOFT, _A.RECEIVER),
    _R.RATE_LIMITED: (_C.SOFT, _A.SENDER),
    _R.TOO_MANY_RECIPIENTS: (_C.SOFT, _A.MESSAGE),
    _R.GREYLISTED: (_C.SOFT, _A.RECEIVER),
    _R.NETWORK: (_C.SOFT, _A.RECEIVER),
    _R.EXPIRED: (_C.SOFT, _A.RECEIVER),
    _R.SYSTEM_ERROR: (_C.SOFT, _A.RECEIVER),
    _R.PROTOCOL: (_C.SOFT, _A.RECEIVER),
    _R.SUPPRESSED: (_C.ADMIN, _A.SENDER),
    _R.UNKNOWN: (_C.SOFT, _A.NOBODY),
    _R.DELIVERED: (_C.NONE, _A.NOBODY),
}


class AutoReplyType(StrEnum):
    """What an automatic answer tells about the mailbox that sent it."""

    VACATION = "vacation"
    LEFT = "left"
    MOVED = "moved"
    TICKET = "ticket"
    UNMONITORED = "unmonitored"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that was found and what found it.

    `rule` is a stable dotted id (documented in `docs/rules.md`), `part` the MIME part's path as in IMAP
    ("1.2"; "" for the top headers), `offset` the byte offset of the finding in the raw message where it is
    known (of the decoded text's part otherwise; -1 when neither), `text` the quoted finding (at most 200
    characters).
    """

    rule: str
    part: str = ""
    offset: int = -1
    text: str = ""


@dataclass(frozen=True, slots=True)
class Recipient:
    """What the message says about one recipient (taxonomy, "Per recipient").

    `address` is who was not reached (Final-Recipient), or the person an auto-reply, unsubscribe or complaint
    concerns. `original` is the address that we sent to, where it differs or is proven. `status` is the most
    specific enhanced code (RFC 3463), `dsn_status` the report's own field; `status_derived` says that no
    field or text held it. `action` is the report's own (RFC 3464 section 2.3.3). `final`: no more tries.
    `confidence` is a probability in 0..1.
    """

    address: str | None = None
    original: str | None = None
    action: str | None = None
    status: str | None = None
    dsn_status: str | None = None
    status_derived: bool = False
    reply_code: int | None = None
    reason: Reason | None = None
    category: Category | None = None
    counts_against: CountsAgainst | None = None
    diagnostic: str | None = None
    remote_mta: str | None = None
    final: bool | None = None
    confidence: float = 0.5
    evidence: tuple[Evidence, ...] = ()
    alternatives: tuple[tuple[Reason, str], ...] = ()  # reasons that lost, and what spoke for them, for --explain


@dataclass(frozen=True, slots=True)
class AutoReply:
    """What an automatic answer tells, whatever the message's kind. `returns_on` is an ISO 8601 date."""

    type: AutoReplyType
    returns_on: str | None = None
    new_address: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a message is, for whom, why, and what shows it. See the module docstring."""

    kind: Kind
    confidence: float
    sha256: str
    recipients: tuple[Recipient, ...] = ()
    reporting_mta: str | None = None
    original_message_id: str | None = None
    original_envelope_id: str | None = None
    feedback_type: str | None = None
    opt_out: bool = False
    authentic: bool | None = None
    auto_reply: AutoReply | None = None
    unparsable: bool = False
    evidence: tuple[Evidence, ...] = ()
    alternatives: tuple[tuple[Kind, str], ...] = ()  # kinds that lost, and why, for --explain

    @property
    def category(self) -> Category:
        """The worst category of all recipients (hard > block > admin > soft > none): it decides the folder."""
        order = (Category.HARD, Category.BLOCK, Category.ADMIN, Category.SOFT)
        held = {r.category for r in self.recipients}
        return next((c for c in order if c in held), Category.NONE)

    def to_json(self) -> dict[str, Any]:
        """The object of the contract's `classify` output, without `file`. Enum members are plain strings."""
        data = asdict(self)
        data["alternatives"] = [list(a) for a in self.alternatives]
        data["category"] = self.category
        return data


def unparsable(sha256: str, why: str) -> Verdict:
    """The verdict for a message that could not be classified at all: kept like any other, and labelled so."""
    return Verdict(Kind.OTHER, 0.0, sha256, unparsable=True, evidence=(Evidence("unparsable", text=why[:200]),))
