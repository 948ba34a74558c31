"""A verdict in plain words names the kind, the people, the rules and what was quoted."""

from __future__ import annotations

from classifier import classify
from classifier.explain import SHOWN_RECIPIENTS, explain
from classifier.verdict import (
    AutoReply,
    AutoReplyType,
    Category,
    CountsAgainst,
    Evidence,
    Kind,
    Reason,
    Recipient,
    Verdict,
    unparsable,
)
from tests.support import hostile
from tests.support.letters import letter


def test_an_auto_reply_is_explained_with_what_it_tells() -> None:
    told = explain(classify(letter("I am out of the office until 7 December.", subject="Automatic reply: Spring")))
    assert "an automatic reply" in told
    assert "back on 2026-12-07" in told
    assert "texts.en.absence" in told
    assert "out of the office" in told


def test_what_lost_is_named() -> None:
    told = explain(classify(letter("Please unsubscribe me. And where is my order 4711?", answers=True)))
    assert "It asks for an opt-out." in told
    assert "unsubscribe:" in told


def test_a_bounce_tells_whom_it_counts_against() -> None:
    person = Recipient(
        address="a@b.example", original="c@d.example", action="failed", status="5.2.2", status_derived=True,
        reason=Reason.MAILBOX_FULL, category=Category.SOFT, counts_against=CountsAgainst.RECIPIENT, confidence=0.9,
        evidence=(Evidence("text.mailbox_full", "2", 10, "quota\n exceeded"),),
    )  # fmt: skip
    told = explain(Verdict(Kind.BOUNCE, 0.99, "0" * 64, (person,), authentic=False, evidence=person.evidence))
    assert "a@b.example (we sent to c@d.example): failed; 5.2.2 (derived from the reason); mailbox_full" in told
    assert "counts against the recipient" in told
    assert told.count("text.mailbox_full in part 2: “quota exceeded”") == 1
    assert "forged or misdirected" in told


def test_the_test_that_decided_is_named_with_those_before_it() -> None:
    told = explain(classify(letter("Where is my order 4711?")))
    assert "Decided by: header fields, addresses and words" in told
    assert "a feedback report about our mail;" in told
    told = explain(Verdict(Kind.COMPLAINT, 0.99, "0" * 64, evidence=(Evidence("arf.feedback-type", "2"),)))
    assert "Decided by: a feedback report about our mail.\n" in told


def test_reasons_that_lost_are_named() -> None:
    told = explain(classify(hostile.report(1, b"550 5.1.1 message rejected as spam")))
    assert "spam_content, category block" in told
    assert "  not: bad_mailbox, for which less speaks (code.x.1.1: 5.1.1)" in told
    assert "  stated: “Action: failed”" in told


def test_many_recipients_are_cut_and_counted() -> None:
    people = tuple(Recipient(address=f"p{n}@b.example") for n in range(SHOWN_RECIPIENTS + 5))
    assert "... and 5 more recipients." in explain(Verdict(Kind.BOUNCE, 0.9, "0" * 64, people))


def test_other_facts() -> None:
    moved = Verdict(Kind.AUTO_REPLY, 0.9, "0" * 64, auto_reply=AutoReply(AutoReplyType.MOVED, None, "new@b.example"))
    assert "new address new@b.example" in explain(moved)
    assert "could not be read" in explain(unparsable("0" * 64, "why"))


def test_an_automatic_answer_known_by_asides_alone_shows_them() -> None:
    text = "Back on Monday. For anything urgent call the office on 555-0100."
    raw = f"From: a@b.example\nTo: return@bounces.example.com\nReturn-Path: <>\nSubject: x\n\n{text}\n".encode()
    said = explain(classify(raw))
    assert "automatic reply" in said
    assert "rule texts.instead" in said
    assert "Whom it concerns: a@b.example" in said
