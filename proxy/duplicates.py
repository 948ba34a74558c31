"""Duplicates that we caused: a sender that never got our reply sends the same bytes again.

Such a resend gets the reply that the first copy would have got, and no second record. Three places know of first
copies: the messages whose sender has gone while they are being handled, the journal's `unanswered` set (kept over
crashes), and, for what the journal could not take, a small memory here. Once a resend has been answered the next
identical submission is a new message: it would have reached the handler twice without us.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from prometheus_client import Counter

from proxy.types import Incoming, Reply

SUPPRESSED = Counter("bouncetap_proxy_duplicates_suppressed", "Resends that we caused and did not forward again")
REMEMBERED = 10_000


def digest_of(message: Incoming) -> bytes:
    """The identity of a byte-identical resend: SHA-256 over MAIL and RCPT arguments and wire bytes."""
    found = hashlib.sha256()
    found.update(b"%d %d\n%b\n" % (len(message.rcpt_args), len(message.wire), message.mail_arg))
    for arg in message.rcpt_args:
        found.update(b"%b\n" % arg)  # no argument contains LF
    found.update(message.wire)
    return found.digest()


class Unheard:
    """Replies that never reached the sender, for messages without a record. The latest ten thousand."""

    def __init__(self) -> None:
        self._replies: OrderedDict[bytes, Reply] = OrderedDict()

    def remember(self, digest: bytes, reply: Reply) -> None:
        """The sender has gone without this reply."""
        self._replies[digest] = reply
        if len(self._replies) > REMEMBERED:
            self._replies.popitem(last=False)

    def take(self, digest: bytes) -> Reply | None:
        """The reply for a resend, once."""
        return self._replies.pop(digest, None)
