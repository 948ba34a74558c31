"""The annotation: whatever a verdict or an envelope says, it stays in its field, and the original can be cut out."""

from __future__ import annotations

import email
import email.policy
from email.header import decode_header, make_header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.verdict import REASONS, Category, Kind, Reason, Recipient, Verdict
from store.annotate import Facts, annotation, begins_with_field, encoded, read, split
from store.folders import FOLDERS, folder_for, joined, keywords_for

NASTY = st.text(max_size=300) | st.sampled_from(
    ["a\r\nX-Evil: 1", "=?utf-8?q?x?=", " lead", "trail ", "\udc80", "x" * 5000]
)


def facts(**fields: object) -> Facts:
    values: dict[str, object] = {"id": "01X", "return_path": "", "envelope_to": (), "legacy": "pending", "expires_s": 0}
    return Facts(**{**values, **fields})  # type: ignore[arg-type]


def decoded(value: bytes) -> str:
    unfolded = value.replace(b"\r\n ", b" ").decode("ascii")
    return str(make_header(decode_header(unfolded)))


@given(NASTY)
def test_a_value_cannot_leave_its_field(value: str) -> None:
    made = encoded(value)
    assert made.isascii()
    for line in made.split(b"\r\n "):
        assert b"\r" not in line
        assert b"\n" not in line
        assert len(line) < 990
    assert b"\0" not in made
    if value:
        assert decoded(made) == value[:900].encode("utf-8", "replace").decode("utf-8")


@given(st.lists(NASTY, max_size=5), NASTY, NASTY, st.binary(max_size=200))
def test_the_original_can_be_cut_out(addresses: list[str], return_path: str, legacy: str, original: bytes) -> None:
    people = tuple(Recipient(address=a, reason=Reason.MOVED, category=Category.HARD, status=a) for a in addresses)
    verdict = Verdict(Kind.BOUNCE, 0.5, "00", people)
    head = annotation(verdict, facts(return_path=return_path, envelope_to=tuple(addresses), legacy=legacy), original)
    assert split(head + original) == (head, original)
    told = read(head)
    kept = tuple(a[:900].encode("utf-8", "replace").decode() for a in addresses)
    assert (told.id, told.envelope_to, told.expires_s) == ("01X", kept, 0)
    assert told.legacy == legacy[:900].encode("utf-8", "replace").decode()
    lines = head.removesuffix(b"\r\n").split(b"\r\n")
    names = [line.partition(b":")[0] for line in lines if line and not line.startswith(b" ")]
    allowed = {
        b"Return-Path",
        b"X-Bouncetap-Kind",
        b"X-Bouncetap-Category",
        b"X-Bouncetap-Reason",
        b"X-Bouncetap-Status",
    }
    allowed |= {b"X-Bouncetap-" + n for n in (b"Recipient", b"Envelope-To", b"Legacy", b"Expires", b"Id")}
    assert set(names) <= allowed
    assert names[-1] == b"X-Bouncetap-Id"
    assert names.count(b"X-Bouncetap-Envelope-To") == len(addresses)


@pytest.mark.parametrize(
    ("original", "begins"),
    [
        (b"Subject: x\r\n", True),
        (b"Subject : x\r\n", True),
        (b"", False),
        (b"\r\nbody", False),
        (b" folded: x\r\n", False),
        (b"From me@example Tue Nov 24 2026\r\n", False),
        (b"no colon\r\nA: b\r\n", False),
        (b"\xffbin: x", False),
        (b": empty", False),
    ],
)
def test_an_empty_line_stands_where_no_field_begins(original: bytes, begins: bool) -> None:
    assert begins_with_field(original) is begins
    head = annotation(Verdict(Kind.OTHER, 0.5, "00"), facts(), original)
    assert head.endswith(b"X-Bouncetap-Id: 01X\r\n" + (b"" if begins else b"\r\n"))
    parsed = email.message_from_bytes(head + original, policy=email.policy.compat32)
    assert parsed["X-Bouncetap-Id"] == "01X"


def test_split_wants_an_annotation() -> None:
    for shown in (b"", b"Subject: x\r\n\r\nbody\r\n", b"no line end"):
        with pytest.raises(ValueError, match="annotation"):
            split(shown)


def test_many_recipients_are_bounded() -> None:
    people = tuple(Recipient(address=f"u{n}@example.org") for n in range(3000))
    head = annotation(Verdict(Kind.BOUNCE, 0.5, "00", people), facts(), b"")
    assert head.count(b"X-Bouncetap-Recipient:") == 1001
    assert b"X-Bouncetap-Recipient: and 2000 more\r\n" in head


def test_every_kind_and_reason_has_its_folder_and_keywords() -> None:
    for kind in Kind:
        assert folder_for(Verdict(kind, 1, "00")) in FOLDERS
    found = {}
    for reason, (category, _) in REASONS.items():
        verdict = Verdict(Kind.BOUNCE, 1, "00", (Recipient(reason=reason, category=category),))
        found[category] = folder_for(verdict)
        assert f"${reason}" in keywords_for(verdict)
    assert found[Category.HARD] == "Bounces/Hard"
    assert found[Category.BLOCK] == "Bounces/Blocked"
    both = (
        Recipient(reason=Reason.MAILBOX_FULL, category=Category.SOFT),
        Recipient(reason=Reason.VIRUS, category=Category.BLOCK),
    )
    mixed = Verdict(Kind.BOUNCE, 1, "00", both)
    assert folder_for(mixed) == "Bounces/Blocked"
    assert joined(keywords_for(mixed)) == "$Block $Soft $mailbox_full $virus"
