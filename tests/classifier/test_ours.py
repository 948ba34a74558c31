"""Whom we had sent to, and whether a report is about mail of ours: return path, rewritten addresses, returned copy."""

from __future__ import annotations

import pytest

from classifier import Context, classify
from classifier.addresses import return_path_token, unwrapped
from classifier.context import Patterns
from classifier.verdict import Kind, Verdict

OURS = Patterns(verp=("bounce+{address}@bounces.shop.example",), sent_domains=("shop.example",))


FAILED = "Action: failed\nStatus: 5.1.1\n"


def report(fields: str = "Final-Recipient: rfc822; lena@dest.example", copy: str = "To: lena@dest.example") -> bytes:
    head = "From: MAILER-DAEMON@mx.dest.example\nTo: return@bounces.shop.example\nSubject: failure\nMIME-Version: 1.0\n"
    head += 'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\n\n'
    parts = (
        "Content-Type: text/plain\n\nYour message could not be delivered.\n",
        f"Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx.dest.example\n\n{fields}\n{FAILED}",
        f"Content-Type: text/rfc822-headers\n\n{copy}\nSubject: hello\n",
    )
    return (head + "".join(f"--b\n{part}\n" for part in parts) + "--b--\n").encode()


def told(raw: bytes, envelope_to: str = "", patterns: Patterns = OURS) -> Verdict:
    verdict = classify(raw, Context(envelope_to=(envelope_to,) if envelope_to else (), patterns=patterns))
    assert verdict.kind is Kind.BOUNCE
    return verdict


def addresses(verdict: Verdict) -> list[tuple[str | None, str | None]]:
    return [(r.address, r.original) for r in verdict.recipients]


def test_final_and_original_recipient_are_kept_apart() -> None:
    fields = "Original-Recipient: rfc822;lena+40dest.example\nFinal-Recipient: rfc822; l.new@other.example"
    assert addresses(told(report(fields.replace("+40", "@")))) == [("l.new@other.example", "lena@dest.example")]
    assert addresses(told(report(fields))) == [("l.new@other.example", "lena@dest.example")]  # xtext, RFC 3461


def test_the_original_comes_from_our_return_path() -> None:
    fields = "Final-Recipient: rfc822; l.new@other.example"
    verdict = told(report(fields, "To: the-list@dest.example"), "bounce+lena=dest.example@bounces.shop.example")
    assert addresses(verdict) == [("l.new@other.example", "lena@dest.example")]
    assert verdict.authentic is True


def test_the_original_comes_from_the_copy() -> None:
    fields = "Final-Recipient: rfc822; l.new@other.example"
    assert addresses(told(report(fields))) == [("l.new@other.example", "lena@dest.example")]
    assert addresses(told(report(fields, "To: a@dest.example, b@dest.example"))) == [("l.new@other.example", None)]


def test_of_several_recipients_the_failed_one_is_ours() -> None:
    fields = (
        "Final-Recipient: rfc822; fine@other.example\nAction: delivered\nStatus: 2.0.0\n\n"
        "Final-Recipient: rfc822; l.new@other.example"
    )
    assert addresses(told(report(fields))) == [
        ("fine@other.example", None),
        ("l.new@other.example", "lena@dest.example"),
    ]


@pytest.mark.parametrize(
    ("rewritten", "plain"),
    [
        ("SRS0=HHH=TT=dest.example=lena@forwarder.example", "lena@dest.example"),
        ("srs0+hhh=tt=dest.example=lena@forwarder.example", "lena@dest.example"),
        ("SRS1=HHH=first.example==HHH=TT=dest.example=lena@second.example", "lena@dest.example"),
        ("prvs=1234abcdef=lena@dest.example", "lena@dest.example"),
        ("prvs=lena/1234abcdef@dest.example", "lena@dest.example"),
        ("prvs=1234abcdef/lena@dest.example", "lena@dest.example"),
        ("btv1==1234abcdef==lena@dest.example", "lena@dest.example"),
        ("lena@dest.example", "lena@dest.example"),
    ],
)
def test_rewriting_is_undone(rewritten: str, plain: str) -> None:
    assert unwrapped(rewritten) == plain


@pytest.mark.parametrize(
    ("envelope_to", "address"),
    [
        ("bounce+lena=dest.example@bounces.shop.example", "lena@dest.example"),
        ("BOUNCE+Lena=Dest.Example@bounces.shop.example", "Lena@Dest.Example"),
        ("prvs=1234abcdef=bounce+lena=dest.example@bounces.shop.example", "lena@dest.example"),
        ("news-bounces+lena=dest.example@lists.shop.example", "lena@dest.example"),
        ("newsletter-return-17-lena=dest.example@lists.shop.example", "lena@dest.example"),
        ("news-owner-lena-maria=dest.example@lists.shop.example", "lena-maria@dest.example"),
        ("bounce+lena+tag=dest.example@bounces.shop.example", "lena+tag@dest.example"),
        ("news-lena=dest.example@lists.shop.example", "lena@dest.example"),
        ("bounces+92569-lena=dest.example@em.shop.example", "lena@dest.example"),
        ("bounces+4711042-9f3c-lena-maria=dest.example@em.shop.example", "lena-maria@dest.example"),
        ("news+k9d2=lena.maria=dest.example@lists.shop.example", "lena.maria@dest.example"),
        ("bounces+007-lena=dest.example@em.shop.example", "007-lena@dest.example"),
        ("return@bounces.shop.example", None),
        ("a=b@bounces.shop.example", None),
    ],
)
def test_tokens_in_return_paths(envelope_to: str, address: str | None) -> None:
    token = return_path_token(envelope_to, OURS)
    assert (token.address if token else None) == address


def test_an_opaque_token_proves_that_it_is_ours() -> None:
    patterns = Patterns(verp=("b-{token}@bounces.shop.example",))
    verdict = told(report(), "b-7Kd93mX@bounces.shop.example", patterns)
    assert verdict.authentic is True
    assert "envelope.token" in [e.rule for e in verdict.evidence]


@pytest.mark.parametrize(
    ("copy", "authentic"),
    [
        ("From: news@shop.example\nMessage-ID: <1@mail.shop.example>", True),
        ("From: news@shop.example\nReturn-Path: <b@bounces.shop.example>", True),
        ("From: news@shop.example\nDKIM-Signature: v=1; a=rsa-sha256; d=shop.example; s=a; b=x", True),
        ("From: news@shop.example\nMessage-ID: <1@cheap.example>", None),  # forgers put us into From
        ("From: pills@cheap.example\nMessage-ID: <1@cheap.example>", False),
        ("From: pills@notshop.example\nMessage-ID: <1@shop.example.cheap.example>", False),
    ],
)
def test_backscatter_is_told_from_reports_about_our_mail(copy: str, authentic: bool | None) -> None:
    verdict = told(report(copy=f"To: lena@dest.example\n{copy}"))
    assert verdict.authentic is authentic
    assert ("authentic.copy-not-ours" in [e.rule for e in verdict.evidence]) is (authentic is False)


def test_nothing_is_said_of_authenticity_where_nothing_is_configured() -> None:
    assert told(report(copy="From: pills@cheap.example\nTo: a@b.example"), patterns=Patterns()).authentic is None
