"""Delivery reports of many mail systems: what they are, whom they are about, and with which codes."""

from __future__ import annotations

import base64
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from classifier import Context, classify, recipients
from classifier.mime import parse
from classifier.reports import secondopinion
from classifier.reports.model import Case, Report
from classifier.verdict import Category, Kind

HERE = Path(__file__).parent
NOTICES: list[dict[str, Any]] = tomllib.loads((HERE / "notices.toml").read_text("utf-8"))["notice"]
SENTENCES: list[dict[str, str]] = tomllib.loads((HERE / "notices_languages.toml").read_text("utf-8"))["notice"]


def raw(notice: dict[str, Any], *, body: str | None = None) -> bytes:
    """The notice as a message; HTML ones go base64, as most systems send them."""
    extra = notice.get("headers", "")
    head = f"From: {notice['from']}\nTo: sender@shop.example\nSubject: {notice['subject']}\nMIME-Version: 1.0\n"
    head += f"{extra}\n" if extra else ""
    subtype = "html" if "html" in notice else "plain"
    text = body if body is not None else notice.get("html", notice.get("text", "")).lstrip("\n")
    head += f"Content-Type: text/{subtype}; charset=utf-8\nContent-Transfer-Encoding: 8bit\n"
    return f"{head}\n{text}".encode()


@pytest.mark.parametrize("notice", NOTICES, ids=[n["name"] for n in NOTICES])
def test_notice(notice: dict[str, Any]) -> None:
    verdict = classify(raw(notice), Context())
    assert verdict.kind == notice["kind"]
    if notice["kind"] in ("bounce", "delay"):
        assert [r.address for r in verdict.recipients] == [who[0] for who in notice["who"]]
        for recipient, (_, status, reply) in zip(verdict.recipients, notice["who"], strict=True):
            assert (recipient.status or "") == status or not status
            assert (recipient.reply_code or 0) == reply
    if notice["kind"] == "other":
        assert verdict.authentic is False
        assert verdict.evidence


@pytest.mark.parametrize("notice", SENTENCES, ids=[f"{n['language']}-{at}" for at, n in enumerate(SENTENCES)])
def test_a_recipient_named_in_a_sentence_of_any_language(notice: dict[str, str]) -> None:
    sentence = {
        **notice,
        "from": "MAILER-DAEMON@mx.relay.example",
        "text": notice["text"].format(to="lena@dest.example"),
    }
    verdict = classify(raw(sentence), Context())
    assert verdict.kind == "bounce"
    found = [(r.address, r.reason) for r in verdict.recipients]
    assert found == [("lena@dest.example", notice.get("reason", "mailbox_full"))]


def dsn(
    fields: str, *, head: str = "", text: str = "Your message could not be delivered.", encoding: str = ""
) -> bytes:
    """A report whose machine-readable part has these fields; `head` replaces the header's first lines."""
    head = head or "From: MAILER-DAEMON@mx.dest.example\nTo: sender@shop.example\nSubject: failure\n"
    body, declared = fields, ""
    if encoding == "base64":
        body, declared = base64.encodebytes(fields.encode()).decode(), "Content-Transfer-Encoding: base64\n"
    return (
        f'{head}MIME-Version: 1.0\nContent-Type: multipart/report; report-type=delivery-status; boundary="b"\n\n'
        f"--b\nContent-Type: text/plain\n\n{text}\n\n"
        f"--b\nContent-Type: message/delivery-status\n{declared}\n{body}\n--b--\n"
    ).encode()


GROUP = "Final-Recipient: rfc822; {to}\nAction: failed\nStatus: {status}\n"
TWO = GROUP.format(to="a@d.example", status="5.1.1"), GROUP.format(to="b@d.example", status="5.2.2")
BOTH = [("a@d.example", "5.1.1"), ("b@d.example", "5.2.2")]


@pytest.mark.parametrize(
    "fields",
    [
        "Reporting-MTA: dns; mx\n\n" + "\n".join(TWO),
        "Reporting-MTA: dns; mx\n\n" + "".join(TWO),  # the blank lines lost
        "Reporting-MTA: dns; mx\n\n" + "\n".join(TWO).replace("\nAction", "\n\nAction"),  # and added
        "\n".join(TWO),  # no per-message fields
        "\n".join(TWO).replace("rfc822; ", "RFC822;\n "),  # folded
        "\n".join(TWO).replace("rfc822; ", ""),  # no type
        "\n".join(TWO).replace("failed", "FAILED (permanently)"),  # RFC 822 comments
        "\n".join(TWO).replace("5.1.1", "5.1.1 (bad destination)"),
        "\n".join(TWO).replace("Action: failed", "X-Other: 1\nAction: failed"),
        "\n".join(TWO).replace("Final", "Original-Recipient: rfc822;x@y.example\nFinal"),
        "\n".join(f"  {line}" for line in "".join(TWO).splitlines()),  # indented by a mail client
    ],
)
@pytest.mark.parametrize("encoding", ["", "base64"])
def test_groups_of_recipients_however_bent(fields: str, encoding: str) -> None:
    verdict = classify(dsn(fields, encoding=encoding))
    assert [(r.address, r.status) for r in verdict.recipients] == BOTH


@pytest.mark.parametrize(
    ("action", "kind"),
    [("failed", "bounce"), ("failure", "bounce"), ("expired", "bounce"), ("delayed", "delay"), ("deferred", "delay"),
     ("delivered", "delivered"), ("relayed", "delivered"), ("expanded", "delivered"), ("", "bounce")],
)  # fmt: skip
def test_the_kind_is_the_actions(action: str, kind: str) -> None:
    status = {"delay": "4.4.1", "delivered": "2.0.0"}.get(kind, "5.0.0")
    fields = GROUP.format(to="a@d.example", status=status).replace("failed", action)
    assert classify(dsn(fields)).kind == kind


def test_a_failure_among_deliveries_is_a_bounce() -> None:
    done = GROUP.format(to="c@d.example", status="2.0.0").replace("failed", "delivered")
    verdict = classify(dsn("\n".join((done, *TWO))))
    assert verdict.kind is Kind.BOUNCE
    assert [r.action for r in verdict.recipients] == ["delivered", "failed", "failed"]
    assert verdict.recipients[0].category is Category.NONE


def test_an_expired_report_is_final_and_keeps_its_cause() -> None:
    fields = GROUP.format(to="a@d.example", status="4.4.7")
    verdict = classify(dsn(fields + "Diagnostic-Code: smtp; 452 4.2.2 Mailbox full, giving up after 5 days\n"))
    assert verdict.kind is Kind.BOUNCE
    assert [(r.reason, r.final, r.category) for r in verdict.recipients] == [("mailbox_full", True, "soft")]


def test_internationalised_addresses() -> None:
    """RFC 6533: utf-8 addresses raw, and with their characters escaped."""
    for written in ("utf-8; јован@пример.срб", r"utf-8; \x{458}\x{43E}\x{432}\x{430}\x{43D}@пример.срб"):
        verdict = classify(dsn(f"Final-Recipient: {written}\nAction: failed\nStatus: 5.1.1\n"))
        assert verdict.recipients[0].address == "јован@пример.срб"


def test_other_address_types_stay_as_they_are() -> None:
    verdict = classify(dsn("Final-Recipient: x400; /S=Doe/P=corp/C=DE/\nAction: failed\nStatus: 5.1.1\n"))
    assert verdict.recipients[0].address == "x400; /S=Doe/P=corp/C=DE/"


PERSON = "From: Gus <gus@customer.example>\nTo: shop@shop.example\nSubject: Fwd: Undelivered Mail\n"


@pytest.mark.parametrize(
    ("above", "kind"),
    [
        ("FYI", "bounce"),
        ("I keep getting this when I write to you. Is your address still right?", "human"),
        ("", "bounce"),
    ],
)
def test_a_forwarded_report_with_a_question_is_a_persons(above: str, kind: str) -> None:
    inner = dsn("\n".join(TWO)).decode()
    outer = f"{PERSON}MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: text/plain\n\n"
    verdict = classify(f"{outer}{above}\n\n--o\nContent-Type: message/rfc822\n\n{inner}\n--o--\n".encode())
    assert verdict.kind == kind
    assert verdict.kind is Kind.HUMAN or verdict.confidence < 0.9


@pytest.mark.parametrize(
    ("disposition", "submitted", "text", "kind", "reason"),
    [
        ("automatic-action/MDN-sent-automatically; deleted", "", "was automatically rejected: no ads", "bounce",
         "recipient_refused"),
        ("automatic-action/MDN-sent-automatically; deleted", "", "was automatically rejected: mailbox full", "bounce",
         "mailbox_full"),
        ("automatic-action/MDN-sent-automatically; dispatched", "auto-replied (rejected)", "No.", "bounce",
         "recipient_refused"),
        ("manual-action/MDN-sent-manually; denied", "", "No.", "bounce", "recipient_refused"),
        ("manual-action/MDN-sent-manually; displayed", "", "The message was displayed.", "receipt", None),
        ("automatic-action/MDN-sent-automatically; deleted", "", "Deleted without being read.", "receipt", None),
    ],
)  # fmt: skip
def test_rejections_in_the_form_of_a_receipt(
    disposition: str, submitted: str, text: str, kind: str, reason: str | None
) -> None:
    """RFC 5429 section 2.1.2, RFC 8098."""
    raw = (
        f"From: postmaster@dest.example\nTo: news@shop.example\nSubject: your mail\nAuto-Submitted: {submitted}\n"
        'MIME-Version: 1.0\nContent-Type: multipart/report; report-type=disposition-notification; boundary="b"\n\n'
        f"--b\nContent-Type: text/plain\n\nYour message to <a@dest.example> {text}\n\n"
        "--b\nContent-Type: message/disposition-notification\n\n"
        f"Final-Recipient: rfc822; a@dest.example\nDisposition: {disposition}\n\n--b--\n"
    )
    verdict = classify(raw.encode())
    assert verdict.kind == kind
    assert [(r.address, r.reason) for r in verdict.recipients] == ([("a@dest.example", reason)] if reason else [])


def test_amazon_ses_notifications() -> None:
    said = "smtp; 550 5.1.1 user unknown"
    person = {"emailAddress": "a@d.example", "action": "failed", "status": "5.1.1", "diagnosticCode": said}
    notice = json.dumps({"notificationType": "Bounce", "bounce": {"bouncedRecipients": [person]}})
    envelope = json.dumps({"Type": "Notification", "Message": notice})
    for body in (notice, envelope):
        raw = f"From: no-reply@sns.amazonaws.com\nTo: a@shop.example\nSubject: AWS Notification\n\n{body}\n"
        (found,) = classify(raw.encode()).recipients
        assert (found.address, found.status, found.reason) == ("a@d.example", "5.1.1", "bad_mailbox")
    assert classify(b'From: no-reply@sns.amazonaws.com\n\n{"notificationType":"Bounce"').kind is not Kind.BOUNCE


@pytest.mark.parametrize("status", [511, 5.1, True, False, None, [], {}, "\ud800"])
def test_amazon_ses_notifications_of_other_types(status: object) -> None:
    person = {"emailAddress": "a@d.example", "action": status, "status": status, "diagnosticCode": status}
    notice = json.dumps({"notificationType": "Bounce", "bounce": {"bouncedRecipients": [person]}})
    verdict = classify(f"From: no-reply@sns.amazonaws.com\n\n{notice}\n".encode())
    assert (verdict.unparsable, [r.address for r in verdict.recipients]) == (False, ["a@d.example"])
    json.dumps(verdict.to_json(), ensure_ascii=False, default=str).encode()


def test_flufl_names_a_recipient_and_never_a_reason() -> None:
    raw = b"From: MAILER-DAEMON@old.example\nTo: a@shop.example\nSubject: x\n\n<lena@dest.example>: gone\n"
    report = secondopinion.ask(parse(raw))
    if report is None:  # its detectors differ from version to version: ask it about what all know
        report = Report("flufl.test", [Case("lena@dest.example", action="failed", status="5.1.1")], 0.6)
    person = recipients.recipient(report.cases[0], report, "550 5.1.1 user unknown", None)
    assert (person.reason, person.category) == ("unknown", Category.SOFT)
    assert person.confidence < 0.5


def test_a_page_to_sign_in_on_makes_a_notice_a_forgery_whomever_it_names() -> None:
    def notice(attachment: str, says: str) -> bytes:
        return (
            "From: Mail Delivery Subsystem <mailer-daemon@shop.example>\nTo: ann@shop.example\n"
            "Return-Path: <www@host.example>\nSubject: Undelivered Mail Returned to Sender\nMIME-Version: 1.0\n"
            'Content-Type: multipart/mixed; boundary="b"\n\n--b\nContent-Type: text/plain\n\n'
            f"Your message could not be delivered to\n\nann@shop.example\n\n{says}\n"
            f'--b\nContent-Type: text/html\nContent-Disposition: attachment; filename="{attachment}"\n\n<p></p>\n'
            "--b--\n"
        ).encode()

    asked = "To see it log in with your mailbox password."
    assert classify(notice("Held.html", asked)).kind is Kind.OTHER
    assert classify(notice("Held.html", "550 5.1.1 User unknown")).kind is Kind.BOUNCE
    assert classify(notice("Held.txt", asked)).kind is Kind.BOUNCE


@pytest.mark.parametrize(
    "listed",
    [
        "\tlena (user not found)\n\tboris (Disk quota exceeded)\n",
        "Unknown user: lena@dest.example\nUser mailbox exceeds allowed size: boris@dest.example\n",
    ],
)
def test_each_of_several_has_the_line_that_names_it(listed: str) -> None:
    notice = (
        "From: Mailer-Daemon@dest.example\nSubject: Message status - undeliverable\nMIME-Version: 1.0\n"
        'Content-Type: multipart/mixed; boundary="b"\n\n--b\nContent-Type: text/plain\n\n'
        f"The message that you sent was undeliverable to the following:\n{listed}\n"
        "--b\nContent-Type: message/rfc822\n\nFrom: news@shop.example\nTo: lena@dest.example, boris@dest.example\n"
        "Subject: x\n\ny\n--b--\n"
    ).encode()
    told = {person.address: person.reason for person in classify(notice).recipients}
    assert told == {"lena@dest.example": "bad_mailbox", "boris@dest.example": "mailbox_full"}
