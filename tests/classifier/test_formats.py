"""A verdict follows the refusal, whichever mail system reports it: formats of reports times replies of receivers."""

from __future__ import annotations

import html
import tomllib
from email.header import Header
from pathlib import Path
from typing import Any

import pytest

from classifier import classify
from classifier.verdict import Kind

FORMATS: list[dict[str, Any]] = tomllib.loads((Path(__file__).parent / "formats.toml").read_text("utf-8"))["format"]
SHAPES = ("whole", "as text", "as HTML", "forwarded inline")
PLAIN = "Content-Type: text/plain; charset=utf-8\n"
TO, MX = "lena@dest.example", "mx1.dest.example"

# One refusal or more for each reason, as receivers word them (none names a receiver: that would be its own rule).
REPLIES = {
    "550 5.1.1 <lena@dest.example>: Recipient address rejected: User unknown in virtual mailbox table": "bad_mailbox",
    "550 No such user here": "bad_mailbox",
    "551 5.1.6 User has moved; please try <lena@new.example>": "moved",
    "550 5.1.2 <lena@dest.example>: Recipient address rejected: Domain not found": "bad_domain",
    "556 5.1.10 Recipient address rejected: domain dest.example does not accept mail (nullMX)": "no_mail_domain",
    "550 5.2.1 This account has been closed": "disabled",
    "550 5.2.1 Mailbox temporarily suspended": "suspended",
    "550 5.7.1 Your message was blocked by the recipient": "recipient_refused",
    "552 5.2.2 <lena@dest.example>: user is over quota": "mailbox_full",
    "452 4.3.1 Insufficient system storage": "system_full",
    "552 5.3.4 Message size exceeds fixed limit": "too_large",
    "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org": "ip_block",
    "550 5.7.1 Message rejected as spam by content filtering": "spam_content",
    "554 5.7.1 Attachment type not allowed": "content_policy",
    "554 5.7.1 Virus Eicar-Test-Signature found": "virus",
    "553 5.1.8 <news@shop.example>: Sender address rejected: not verified": "sender_rejected",
    "530 5.7.0 Must issue a STARTTLS command first": "security",
    "550 5.7.26 This message fails to pass DMARC checks": "auth_failed",
    "550-5.7.26 Your email has been blocked because the sender is unauthenticated. Gmail requires all senders to"
    " authenticate. Verify your account at https://support.google.com/mail/answer/81126": "auth_failed",
    "550 5.7.25 Client host rejected: cannot find your reverse hostname, [192.0.2.1]": "ptr_missing",
    "550 5.6.0 Message is not RFC 5322 compliant: duplicate header": "not_compliant",
    "554 5.7.1 <lena@dest.example>: Relay access denied": "relay_denied",
    "421 4.7.0 Too many connections from your IP address": "rate_limited",
    "452 4.5.3 Error: too many recipients": "too_many_recipients",
    "450 4.2.0 <lena@dest.example>: Recipient address rejected: Greylisted": "greylisted",
    "451 4.3.0 Internal server error, queue file write error": "system_error",
    "503 5.5.1 Bad sequence of commands": "protocol",
}


def report(form: dict[str, Any], reply: str, shape: str) -> bytes:
    """The refusal as this mail system would report it, in one of the shapes of `SHAPES`."""
    facts = {"to": TO, "mx": MX, "reply": reply, "status": "4.0.0" if reply[0] == "4" else "5.0.0"}
    subject, text = fill(form["subject"], facts), fill(form["text"], facts).lstrip()
    if shape == "forwarded inline":
        above = f"---------- Forwarded message ---------\nFrom: {form['from']}\nSubject: {subject}\n\n"
        return message("Ann Clerk <ann@shop.example>", f"Fwd: {subject}", PLAIN, above + text)
    if shape == "as HTML":
        lines = html.escape(text, quote=False).replace("\n", "<br>\n")
        return message(form["from"], subject, PLAIN.replace("plain", "html"), f"<html><body>{lines}</body></html>")
    if shape == "as text":
        return message(form["from"], subject, PLAIN, text)
    if "dsn" not in form:
        copy = "\nFrom: news@shop.example\nMessage-ID: <1@shop.example>\nSubject: hello\n"
        return message(form["from"], subject, PLAIN, text + copy)
    returned = f"Content-Type: message/rfc822\n\nFrom: news@shop.example\nTo: {TO}\nSubject: hello\n\nhello\n"
    dsn = f"Content-Type: message/delivery-status\n\n{fill(form['dsn'], facts).lstrip()}\n"
    parts = "".join(f"--b\n{part}\n" for part in (f"{PLAIN}\n{text}", dsn, returned))
    kind = 'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\n'
    return message(form["from"], subject, kind, f"{parts}--b--\n")


def message(sender: str, subject: str, kind: str, body: str) -> bytes:
    encoded = Header(subject, "utf-8", maxlinelen=900).encode()
    head = f"From: {sender}\nTo: news@shop.example\nSubject: {encoded}\nMIME-Version: 1.0\n{kind}"
    return f"{head}\n{body}".encode()


def fill(template: str, facts: dict[str, str]) -> str:
    for name, value in facts.items():
        template = template.replace("{" + name + "}", value)
    return template


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", FORMATS, ids=[f["name"] for f in FORMATS])
def test_the_verdict_follows_the_refusal(form: dict[str, Any], shape: str) -> None:
    wrong = []
    for reply, reason in REPLIES.items():
        verdict = classify(report(form, reply, shape))
        told = [(verdict.kind, r.address, r.reason, r.reply_code) for r in verdict.recipients]
        if told != [(Kind.BOUNCE, TO, reason, int(reply[:3]))] and not (shape != "whole" and untold(form)):
            wrong.append((reply, told))
    assert not wrong


def untold(form: dict[str, Any]) -> bool:
    """Only the machine-readable part of this form has the refusal."""
    return "{reply}" not in form["text"]
