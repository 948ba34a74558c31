"""Where a message goes and which keywords it carries: the contract's table of folders and keywords.

`$Hard` ... and the reason come from the verdict; `$Spooled`, `$Rejected`, `$Dead` tell the fate at the handler and
change later (`outcomes.py`).
"""

from __future__ import annotations

from collections.abc import Iterable

from classifier.verdict import Category, Kind, Verdict

INBOX = "INBOX"  # exists for the clients' sake, and is always empty
BY_CATEGORY = {
    Category.HARD: "Bounces/Hard",
    Category.SOFT: "Bounces/Soft",
    Category.BLOCK: "Bounces/Blocked",
    Category.ADMIN: "Bounces/Admin",
    Category.NONE: "Bounces/Soft",  # a bounce that says nothing about anyone
}
BY_KIND = {
    Kind.DELAY: "Delays",
    Kind.DELIVERED: "Delivered",
    Kind.AUTO_REPLY: "Auto-Replies",
    Kind.CHALLENGE_RESPONSE: "Challenges",
    Kind.UNSUBSCRIBE: "Unsubscribes",
    Kind.COMPLAINT: "Complaints",
    Kind.RECEIPT: "Receipts",
    Kind.REPORT: "Reports",
    Kind.HUMAN: "Replies",
    Kind.OTHER: "Other",
}
FOLDERS = tuple(dict.fromkeys((*BY_CATEGORY.values(), *BY_KIND.values())))

_CATEGORY_KEYWORDS = {
    Category.HARD: "$Hard",
    Category.SOFT: "$Soft",
    Category.BLOCK: "$Block",
    Category.ADMIN: "$Admin",
}
SPOOLED, REJECTED, DEAD = "$Spooled", "$Rejected", "$Dead"
FATE_KEYWORDS = frozenset({SPOOLED, REJECTED, DEAD})


def folder_for(verdict: Verdict) -> str:
    """The folder that a message is filed to: for a bounce the worst recipient decides."""
    if verdict.kind is Kind.BOUNCE:
        return BY_CATEGORY[verdict.category]
    return BY_KIND[verdict.kind]


def keywords_for(verdict: Verdict) -> frozenset[str]:
    """Categories and reasons of all recipients."""
    words = {_CATEGORY_KEYWORDS[r.category] for r in verdict.recipients if r.category in _CATEGORY_KEYWORDS}
    return frozenset(words | {f"${r.reason}" for r in verdict.recipients if r.reason is not None})


def joined(keywords: Iterable[str]) -> str:
    """Keywords as the index stores them: sorted, separated by one space."""
    return " ".join(sorted(set(keywords)))
