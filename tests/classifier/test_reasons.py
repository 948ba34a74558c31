"""Which fact wins: text over code, the receiver over general text, the cause over `expired`."""

from __future__ import annotations

import pytest

from classifier.reasons import Facts, Finding, explain
from classifier.reasons.codes import best_code, enhanced_codes, reply_code
from classifier.reasons.text import fold, join_reply_lines, mask
from classifier.verdict import Category, CountsAgainst, Reason


def why(diagnostic: str = "", **facts: str | int | None) -> Finding:
    return explain(Facts(diagnostic=diagnostic, **facts))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("550 5.1.1 Message identified as SPAM and rejected by content filter", Reason.SPAM_CONTENT),
        ("550 5.1.1 Rejected by DMARC policy of news.acme.example", Reason.AUTH_FAILED),
        ("550 5.1.1 IB607. Connection refused. 192.0.2.1 has exceeded the permitted rate limit", Reason.RATE_LIMITED),
        (
            "550 5.1.1 <a@b.example> Access denied - connections from your country are not permitted",
            Reason.CONTENT_POLICY,
        ),
        ("550 5.7.1 No such user!", Reason.BAD_MAILBOX),
        ("550 5.7.1 Mail quota exceeded", Reason.MAILBOX_FULL),
    ],
)
def test_text_beats_code(text: str, reason: Reason) -> None:
    assert why(text, action="failed").reason is reason


def test_a_telling_code_beats_a_vague_text() -> None:
    assert why("552 5.2.2 Requested mail action aborted").reason is Reason.MAILBOX_FULL
    assert why("551 not our customer", status="5.1.6").reason is Reason.MOVED
    assert why("550 5.1.1 Not our Customer").reason is Reason.BAD_MAILBOX


@pytest.mark.parametrize(
    "host",
    [
        "mx1.mailspamprotection.com",
        "spamfilter.virus-free.example.net",
        "quota.full.example.com",
        "relay.denied.example",
    ],
)
def test_host_names_say_nothing(host: str) -> None:
    assert why(f"host {host}[192.0.2.1] said: 550 5.1.1 User unknown").reason is Reason.BAD_MAILBOX
    assert why(f"550 5.0.0 refused by {host}").reason not in (Reason.VIRUS, Reason.MAILBOX_FULL, Reason.RELAY_DENIED)


def test_the_cause_beats_expired() -> None:
    finding = why(
        "could not be delivered for 5 days: connect to mx.example.com[192.0.2.1]:25: Connection refused",
        action="failed",
    )
    assert (finding.reason, finding.final) == (Reason.NETWORK, True)
    finding = why("retry timeout exceeded", status="4.4.7", action="delayed")
    assert (finding.reason, finding.final) == (Reason.EXPIRED, False)


def test_a_receivers_rule_beats_general_text_only_at_that_receiver() -> None:
    assert why("550 user unknown https://postmaster.gmx.net/en/case?c=r0105").reason is Reason.MAILBOX_FULL
    assert why("550 5.7.1 inactive", remote_mta="dns; mx1.naver.com").evidence[0].rule == "naver.inactive"
    assert why("550 5.7.1 inactive", remote_mta="dns; mx1.naver.com.example").evidence[0].rule != "naver.inactive"


def test_prose_counts_for_its_own_recipient_only() -> None:
    prose = (
        "An error has occurred while attempting to deliver a message:\n\n"
        "gone@a.example: 550 5.1.1 Recipient address rejected: User unknown\n"
        "full@a.example: 552 5.2.2 Recipient address rejected: Mailbox full\n"
    )
    gone = why(status="5.0.0", address="gone@a.example", human_text=prose, action="failed")
    full = why(status="5.0.0", address="full@a.example", human_text=prose, action="failed")
    assert (gone.reason, gone.status) == (Reason.BAD_MAILBOX, "5.1.1")
    assert (full.reason, full.status) == (Reason.MAILBOX_FULL, "5.2.2")


def test_prose_does_not_outweigh_a_telling_status() -> None:
    finding = why(status="5.1.1", human_text="This message was scanned for viruses by our gateway.", action="failed")
    assert finding.reason is Reason.BAD_MAILBOX


def test_nothing_known_is_unknown_and_nobodys_fault() -> None:
    finding = why()
    assert (finding.reason, finding.category, finding.counts_against) == (
        Reason.UNKNOWN,
        Category.SOFT,
        CountsAgainst.NOBODY,
    )
    assert finding.confidence < 0.5
    assert not finding.evidence


def test_delivered_is_no_failure() -> None:
    assert why("250 2.0.0 OK", action="relayed", status="2.0.0").category is Category.NONE


def test_bare_5xx_is_never_hard() -> None:
    for code in (550, 551, 552, 553, 554):
        assert why(f"{code} no", action="failed").category is not Category.HARD or code in (551, 553)
    assert why("550 5.7.1 refused").category is not Category.HARD


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("550-5.7.26 unauthenticated 550 5.7.26 see", "5.7.26"),
        ("553 sorry, badrcptto (#5.7.1)", "5.7.1"),
        ("550 #5.1.0 Address rejected.", "5.1.0"),
        ("host a[5.1.1.4] said: 550 no", None),
        ("Exim 5.1.1 says no", None),
        ("550 see http://x.example/5.1.1/", None),
        ("5.1.0 - Unknown address error 550-'5.7.1 <a@b.example>... Access denied'", "5.7.1"),
        (
            "550 5.4.1 All recipient addresses rejected : Access denied [x.outlook.com 2026-11-24T02:10:11.123Z]",
            "5.4.1",
        ),
    ],
)
def test_enhanced_codes_are_told_from_lookalikes(text: str, status: str | None) -> None:
    assert best_code(enhanced_codes(fold(text, 999))) == status


def test_the_refusals_code_outranks_the_reports() -> None:
    assert why("452 4.2.2 Mailbox full", status="4.4.7").status == "4.2.2"
    assert why("550 User unknown", status="5.1.1").status == "5.1.1"
    assert why("550 5.0.0 User unknown", status="5.1.1").status == "5.1.1"


def test_a_status_is_derived_only_where_none_is_told() -> None:
    assert (why("550 User unknown").status, why("550 User unknown").status_derived) == ("5.1.1", True)
    assert (why("450 Mailbox full", action="delayed").status) == "4.2.2"
    assert why("550 User unknown", status="5.0.0").status_derived is False
    assert why("554 rejected").status is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("550 5.1.1 no", 550),
        ("smtp;550 no", 550),
        ("host x said: 452 4.2.2 full", 452),
        ("<<< 421 busy", 421),
        ("192.0.2.550 failed", None),
        ("message of 550 bytes", None),
    ],
)
def test_reply_codes(text: str, code: int | None) -> None:
    assert reply_code(fold(text, 999)) == code


def test_repeated_codes_do_not_cut_sentences() -> None:
    text = "550-5.2.1 the account that you tried 550-5.2.1 to reach is 550 5.2.1 disabled"
    assert join_reply_lines(text) == "550-5.2.1 the account that you tried to reach is disabled"


def test_names_and_numbers_are_masked() -> None:
    masked = mask(
        "<a@b.example> at mx.spam.example [192.0.2.1] see https://virus.example/quota resolver.adr.recipnotfound"
    )
    assert "spam" not in masked
    assert "virus" not in masked
    assert "resolver.adr.recipnotfound" in masked


def test_long_texts_are_cut() -> None:
    assert why("x" * 8192 + " user unknown").reason is Reason.UNKNOWN
    assert why("a." * 200_000, human_text="<" * 300_000).reason is Reason.UNKNOWN
