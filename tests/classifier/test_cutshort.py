"""Reports to several recipients that end anywhere: who was named before the cut is found, and nobody else."""

from __future__ import annotations

import pytest

from classifier import classify

REFUSED = {
    "anna@dest.example": ("5.1.1", "550 5.1.1 User unknown", "bad_mailbox"),
    "bert.lang@mail.other.example": ("5.2.2", "552 5.2.2 Mailbox full", "mailbox_full"),
    "chris@third.example": ("5.7.1", "554 5.7.1 Message rejected as spam", "spam_content"),
}
PROSE = {
    "postfix": "This is the mail system at host mx.relay.example.\n\n"
    + "\n".join(f"<{to}>: host mx.dest.example[192.0.2.7] said: {said}\n" for to, (_, said, _) in REFUSED.items()),
    "sendmail": "   ----- The following addresses had permanent fatal errors -----\n"
    + "".join(f"<{to}>\n    (reason: {said})\n" for to, (_, said, _) in REFUSED.items()),
    "exim": "This message was created automatically by mail delivery software.\n"
    "A message that you sent could not be delivered. The following address(es) failed:\n\n"
    + "".join(f"  {to}\n    host mx.dest.example [192.0.2.7]: {said}\n" for to, (_, said, _) in REFUSED.items()),
}
HEAD = """From: MAILER-DAEMON@mx.relay.example
To: sender@shop.example
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

"""
FIELDS = "\n".join(
    f"Final-Recipient: rfc822; {to}\nAction: failed\nStatus: {status}\nDiagnostic-Code: smtp; {said}\n"
    for to, (status, said, _) in REFUSED.items()
)
STATUS = f"\n--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.relay.example\n\n{FIELDS}\n--b--\n"


def found(raw: str) -> dict[str | None, str]:
    return {person.address: str(person.reason) for person in classify(raw.encode()).recipients}


@pytest.mark.parametrize("form", PROSE)
def test_cut_in_the_fields_nobody_is_lost(form: str) -> None:
    wanted = {to: reason for to, (_, _, reason) in REFUSED.items()}
    whole = HEAD + PROSE[form] + STATUS
    for end in range(len(HEAD + PROSE[form]), len(whole) + 1, 7):
        assert found(whole[:end]) == wanted, whole[:end][-60:]


def test_cut_without_prose_what_stands_is_told() -> None:
    whole = f"{HEAD}Your message could not be delivered.\n{STATUS}"
    cut = whole.index("Status: 5.2.2")
    assert list(found(whole[:cut])) == ["anna@dest.example", "bert.lang@mail.other.example"]


def test_prose_about_others_adds_nobody() -> None:
    prose = "<team@dest.example>: not delivered\n<info@dest.example>: not delivered\n"
    whole = HEAD + prose + STATUS
    assert list(found(whole[: whole.index("Final-Recipient: rfc822; chris")])) == list(REFUSED)[:2]
