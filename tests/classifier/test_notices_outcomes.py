"""What became of a message, where only prose tells it; and people who write of the same."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from classifier import classify
from classifier.verdict import Kind

HERE = Path(__file__).parent
NOTICES: list[dict[str, str]] = tomllib.loads((HERE / "notices_outcomes.toml").read_text("utf-8"))["notice"]


def message(notice: dict[str, str], *, path: str = "<>") -> bytes:
    head = f"Return-Path: {path}\nFrom: {notice['from']}\nTo: sender@shop.example\nSubject: {notice['subject']}\n"
    head += "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n"
    return f"{head}\n{notice['text']}".encode()


@pytest.mark.parametrize("notice", NOTICES, ids=[n["subject"] for n in NOTICES])
def test_what_became_of_the_message(notice: dict[str, str]) -> None:
    verdict = classify(message(notice))
    assert verdict.kind == notice["kind"]
    assert [r.address for r in verdict.recipients] == ["lena@dest.example"]
    assert verdict.recipients[0].action == {"bounce": "failed", "delay": "delayed"}.get(verdict.kind, verdict.kind)
    assert verdict.recipients[0].reason == notice.get("reason", verdict.recipients[0].reason)


PEOPLE = {
    "of a filter's maker": """
        From: Tom Baker <tom@sophos.example>
        Subject: Re: renewal

        Hi Anna,

        the message you sent to lena@b.example was blocked by our filter, there is a macro in it. Could you send a PDF?

        Thanks
        Tom
    """,
    "a postmaster": """
        From: Postmaster <postmaster@dest.example>
        Subject: Your mail to the sales team

        Hello,

        your message to sales@dest.example was blocked because of an attachment. I have released it by hand.

        Kind regards
        Jan
    """,
    "a salesman": """
        From: Barracuda Sales <sales@barracuda.example>
        Subject: Stop viruses in email

        Hi there,

        which content filter found the virus in an email you sent last year? Do you have 15 minutes on Tuesday?

        Regards
        Mike
    """,
    "an automatic answer that names who helps": """
        From: Postmaster <postmaster@dest.example>
        Subject: Automatische Antwort

        Diese Adresse wird nicht gelesen. Wenn Ihr Postfach voll ist, hilft Ihnen support@dest.example weiter.
    """,
    "an automatic answer about itself": """
        From: Postmaster <postmaster@dest.example>
        Subject: Re: your message

        Thank you for your message. This address is no longer in use. For questions write to info@dest.example instead.
    """,
    "a reader": """
        From: Lena <lena@dest.example>
        Subject: your newsletter

        In the message you sent there was a virus, says my program. The last one was successfully delivered. Lena
    """,
}


@pytest.mark.parametrize("text", PEOPLE.values(), ids=PEOPLE)
def test_who_writes_of_filters_and_mailboxes_sends_no_report(text: str) -> None:
    raw = "\n".join(line.strip() for line in text.strip().splitlines())
    assert classify(raw.encode()).kind not in (Kind.BOUNCE, Kind.DELAY, Kind.DELIVERED)
