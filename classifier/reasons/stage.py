"""Which SMTP command a refusal answered, as reporters put it: "in reply to RCPT TO command", "after end of data"."""

from __future__ import annotations

import re

_STAGES = {
    "initial connection": "connect", "ehlo": "helo", "helo": "helo", "lhlo": "helo", "mail from": "mail",
    "rcpt to": "rcpt", "data": "data", "end of data": "data", "message body": "data",
}  # fmt: skip
_STAGE = re.compile(
    r"(?:in reply to|after|response to|during|in response to) (?:pipelined |the )?(?:sending )?"
    r"(end of data|mail from|rcpt to|ehlo|helo|lhlo|data|initial connection|message body)"
)


def named_in(folded: str) -> str | None:
    """Give the stage that a folded text names (connect, helo, mail, rcpt, data), None where it names none."""
    found = _STAGE.search(folded)
    return _STAGES[found.group(1)] if found else None
