"""Amazon SES notifications that come by mail: the JSON of an SNS topic (`notificationType` Bounce or Delivery)."""

from __future__ import annotations

import json
from typing import Any

from classifier.mime import Message
from classifier.reports.model import MAX_RECIPIENTS, Case, Report, cut
from classifier.verdict import Evidence

MAX_TEXT = 4000
_SENDER = "no-reply@sns.amazonaws.com"


def looks_like_one(message: Message) -> bool:
    """Cheap test: SNS sent it, or its text begins with such JSON (forwarded)."""
    return message.from_address == _SENDER or '"notificationType"' in message.opening


def find(message: Message) -> Report | None:
    """Read the notification; None where its JSON is broken or tells of no recipient."""
    text = message.text.replace("!\n ", "").replace("\n", "")  # mail systems wrap the one long line
    try:
        notice = _notice(text)
        bounce = notice.get("bounce") or {}
        delivery = notice.get("delivery") or {}
        people = bounce.get("bouncedRecipients") or [{"emailAddress": a} for a in delivery.get("recipients") or []]
        told = "failed" if bounce else "delivered"
        cases = [_case(person, told, _text(delivery.get("smtpResponse"))) for person in people[:MAX_RECIPIENTS]]
    except (ValueError, TypeError, AttributeError, RecursionError, KeyError):
        return None
    if not cases:
        return None
    evidence = [Evidence("ndr.ses-notification", "1", -1, text[:200])]
    return Report("ndr.ses", cases, 0.97, reporting_mta=_text(bounce.get("reportingMTA")) or None, evidence=evidence)


def _notice(text: str) -> dict[str, Any]:
    """The notification itself, which SNS may wrap in an envelope with the JSON as its `Message` string."""
    data, _ = json.JSONDecoder().raw_decode(text[text.index("{") :])
    notice = data if isinstance(data, dict) else {}
    if isinstance(notice.get("Message"), str):
        notice = json.loads(notice["Message"])
    return notice


def _case(person: dict[str, Any], told: str, response: str) -> Case:
    diagnostic = _text(person.get("diagnosticCode")) or response
    return Case(
        address=_text(person.get("emailAddress")) or None,
        action=_text(person.get("action")) or told,
        status=_text(person.get("status")) or None,
        diagnostic=cut(diagnostic.removeprefix("smtp; ")),
    )


def _text(value: object) -> str:
    """What JSON calls a string, without lone surrogates, which it may have; "" for whatever else stands there."""
    return value[:MAX_TEXT].encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else ""
